//! The wire of the control plane, JSON 1.1: `POST /` with `X-Amz-Target: SageMaker.OPERATION`.
//!
//! Which operation is meant, and how outcomes and refusals are written. What an operation does is
//! [`crate::control`]'s.

use crate::{
    auth::error::AuthError,
    body::BodyError,
    control::error::{ControlError, ErrorCode},
    headers,
};
use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderMap, HeaderValue},
    },
};
use serde_json::Value;

/// What stands before the name of each operation.
pub const SERVICE: &str = "SageMaker.";

const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

/// Returns the name of the operation that a request asks for. Not every name is one of ours.
pub fn operation(headers: &HeaderMap) -> Result<&str, ControlError> {
    let target = headers.get(&crate::headers::TARGET).and_then(|target| target.to_str().ok());
    target
        .and_then(|target| target.strip_prefix(SERVICE))
        .ok_or_else(ControlError::unknown_operation)
}

/// Writes the answer of an operation.
pub fn answer(output: &Value, id: &HeaderValue) -> HttpResponse {
    write(StatusCode::OK, output, id)
}

/// Writes a refusal.
pub fn refusal(error: &ControlError, id: &HeaderValue) -> HttpResponse {
    let status = StatusCode::from_u16(error.code.status());
    write(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &error.body(), id)
}

/// Writes why a caller was not let in.
pub fn auth_refusal(error: &AuthError, id: &HeaderValue) -> HttpResponse {
    let body = serde_json::json!({ "__type": error.code(), "message": error.to_string() });
    write(error.status(), &body, id)
}

/// Writes why a body was not taken. The statuses are those of the runtime API.
pub fn body_refusal(error: &BodyError, id: &HeaderValue) -> HttpResponse {
    let code = ErrorCode::Serialization.as_str();
    let (status, code, message) = match error {
        BodyError::TooLarge(_) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", error.to_string())
        }
        BodyError::TooSlow => {
            (StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException", error.to_string())
        }
        // The code that clients try again.
        BodyError::BudgetSpent => {
            (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
        }
        BodyError::Broken(_) => {
            (StatusCode::BAD_REQUEST, code, "The request body is incomplete.".to_owned())
        }
    };
    write(status, &serde_json::json!({ "__type": code, "message": message }), id)
}

fn write(status: StatusCode, body: &Value, id: &HeaderValue) -> HttpResponse {
    HttpResponseBuilder::new(status)
        .insert_header((headers::REQUEST_ID.clone(), id.clone()))
        .insert_header((CONTENT_TYPE, JSON))
        .body(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use serde_json::json;

    fn with_target(target: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(crate::headers::TARGET.clone(), HeaderValue::from_str(target).unwrap());
        headers
    }

    async fn read(response: HttpResponse) -> (u16, Value) {
        assert_eq!(response.headers().get(CONTENT_TYPE), Some(&JSON));
        assert_eq!(response.headers().get("x-amzn-requestid").unwrap(), "id-1");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body()).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn targets_name_operations_of_sagemaker() {
        assert_eq!(operation(&with_target("SageMaker.CreateModel")), Ok("CreateModel"));
        for other in ["CreateModel", "DynamoDB_20120810.GetItem", "", "sagemaker.CreateModel"] {
            assert_eq!(operation(&with_target(other)), Err(ControlError::unknown_operation()));
        }
        assert!(operation(&HeaderMap::new()).is_err());
    }

    #[actix_web::test]
    async fn answers_have_the_type_of_the_protocol_and_an_id() {
        let id = HeaderValue::from_static("id-1");
        let output = json!({ "ModelArn": "arn" });
        assert_eq!(read(answer(&output, &id)).await, (200, output));
        let error = ControlError::validation("no");
        let body = json!({ "__type": "ValidationException", "message": "no" });
        assert_eq!(read(refusal(&error, &id)).await, (400, body));
        assert_eq!(read(refusal(&ControlError::internal(), &id)).await.0, 500);
        assert_eq!(read(body_refusal(&BodyError::TooLarge(1), &id)).await.0, 413);
        assert_eq!(read(body_refusal(&BodyError::BudgetSpent, &id)).await.0, 503);
    }
}
