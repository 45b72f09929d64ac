//! STS and IAM: calls whose operation and parameters are a form, and whose answers are XML.
//!
//! Only what SDK sessions ask for before they use `SageMaker` is there: who am I, and which role.

use super::{
    iam,
    invocations::{Reception, new_request_id},
    sts,
};
use crate::auth::{api::Api, error::AuthError, scope::CredentialScope};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CONTENT_LENGTH, HeaderValue},
    },
    web::{Data, Payload, Query},
};
use std::{borrow::Cow, collections::HashMap};

/// The calls here have two parameters of a hundred bytes.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// What a caller wants, as it stands in the form.
#[derive(Debug, Default)]
pub struct Call(HashMap<String, String>);

impl Call {
    fn parse(form: &str) -> Result<Self, QueryError> {
        let form = Query::<HashMap<String, String>>::from_query(form);
        form.map(|form| Self(form.into_inner())).map_err(|_| QueryError::Malformed)
    }

    pub fn parameter(&self, name: &'static str) -> Result<&str, QueryError> {
        let value = self.0.get(name).map(String::as_str).filter(|value| !value.is_empty());
        value.ok_or(QueryError::Missing(name))
    }
}

/// A result, ready for its envelope.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub namespace: &'static str,
    pub action: &'static str,
    /// What is within `<…Result>`.
    pub result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("The request is not a form of at most {MAX_FORM_BYTES} bytes.")]
    Malformed,
    #[error("Could not find operation {action} for version {version}")]
    Unknown { action: String, version: String },
    #[error("The request must contain the parameter {0}.")]
    Missing(&'static str),
    #[error("{0}")]
    Invalid(String),
}

impl QueryError {
    fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "MalformedInput",
            Self::Unknown { .. } => "InvalidAction",
            Self::Missing(_) => "MissingParameter",
            Self::Invalid(_) => "ValidationError",
        }
    }
}

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// `POST` of a form for STS or IAM.
pub async fn call(
    request: HttpRequest,
    mut payload: Payload,
    reception: Data<Reception>,
) -> HttpResponse {
    let id = new_request_id();
    let (status, xml) = match serve(&request, &mut payload, &reception).await {
        Ok(answer) => (StatusCode::OK, envelope(&answer, &id)),
        Err(refused) => {
            reception.bodies.drain(&mut payload).await;
            let (status, code) = match &refused {
                Refused::Auth(error) => (error.status(), error.code()),
                Refused::Query(error) => (StatusCode::BAD_REQUEST, error.code()),
            };
            (status, error_envelope(code, &refused.to_string(), &id))
        }
    };
    HttpResponse::build(status)
        .insert_header(("x-amzn-requestid", id))
        .content_type("text/xml")
        .body(xml)
}

async fn serve(
    request: &HttpRequest,
    payload: &mut Payload,
    reception: &Reception,
) -> Result<Answer, Refused> {
    let scope = CredentialScope::of(request.headers(), request.query_string());
    let api = if scope.is_some_and(|it| it.service == "iam") { Api::Iam } else { Api::Sts };
    let visitor = reception.gate.admit(request, api)?;
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let body = reception.bodies.read(payload, length).await.map_err(|_| QueryError::Malformed)?;
    let caller = visitor.identify(&body.bytes)?;
    let account_id = &reception.identity.account_id;
    let answer = answer(&body.bytes, account_id, caller.arn())?;
    // Everybody may ask who they are (STS API reference, `GetCallerIdentity`).
    if api == Api::Iam {
        let resource = || format!("arn:aws:iam::{account_id}:role/*");
        caller.may(&format!("iam:{}", answer.action), None, resource)?;
    }
    Ok(answer)
}

fn answer(form: &[u8], account_id: &str, caller: Option<&str>) -> Result<Answer, QueryError> {
    let form = std::str::from_utf8(form).ok().filter(|form| form.len() <= MAX_FORM_BYTES);
    let call = Call::parse(form.ok_or(QueryError::Malformed)?)?;
    match call.parameter("Action")? {
        "GetCallerIdentity" => Ok(sts::caller_identity(account_id, caller)),
        "GetRole" => iam::role(call.parameter("RoleName")?, account_id),
        action => Err(QueryError::Unknown {
            action: action.to_owned(),
            version: call.parameter("Version").unwrap_or_default().to_owned(),
        }),
    }
}

fn envelope(answer: &Answer, id: &HeaderValue) -> String {
    let Answer { namespace, action, result } = answer;
    let id = id.to_str().unwrap_or_default();
    format!(
        "<{action}Response xmlns=\"{namespace}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
    )
}

fn error_envelope(code: &str, message: &str, id: &HeaderValue) -> String {
    let id = id.to_str().unwrap_or_default();
    format!(
        "<ErrorResponse xmlns=\"{}\"><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message>\
         </Error><RequestId>{id}</RequestId></ErrorResponse>",
        sts::NAMESPACE,
        code,
        escaped(message)
    )
}

/// What a client wrote may stand in XML.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['<', '>', '&', '"', '\'']) && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |it: char| match it {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&apos;".to_owned(),
        // Of these XML 1.0 has no spelling at all.
        it if it.is_control() => "\u{fffd}".to_owned(),
        it => it.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "123456789012";

    #[track_caller]
    fn check_error(form: &str, code: &str, message: &str) {
        let error = answer(form.as_bytes(), ACCOUNT, None).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message), "{form}");
    }

    #[test]
    fn the_caller_is_a_role_that_has_been_assumed() {
        let answer = answer(b"Action=GetCallerIdentity&Version=2011-06-15", ACCOUNT, None).unwrap();
        assert_eq!((answer.namespace, answer.action), (sts::NAMESPACE, "GetCallerIdentity"));
        let arn = "<Arn>arn:aws:sts::123456789012:assumed-role/manifold/session</Arn>";
        assert!(answer.result.contains(arn), "{}", answer.result);
    }

    #[test]
    fn a_role_has_the_arn_of_its_name() {
        let form = b"Action=GetRole&Version=2010-05-08&RoleName=my%2Brole";
        let answer = answer(form, ACCOUNT, None).unwrap();
        let arn = "<Arn>arn:aws:iam::123456789012:role/my+role</Arn>";
        assert!(answer.result.contains(arn), "{}", answer.result);
    }

    #[test]
    fn all_else_is_refused_by_its_name() {
        check_error(
            "Action=AssumeRole&Version=2011-06-15",
            "InvalidAction",
            "Could not find operation AssumeRole for version 2011-06-15",
        );
        check_error(
            "Version=1",
            "MissingParameter",
            "The request must contain the parameter Action.",
        );
        check_error(
            "Action=GetRole",
            "MissingParameter",
            "The request must contain the parameter RoleName.",
        );
        let message = "The request is not a form of at most 16384 bytes.";
        check_error(&"x".repeat(MAX_FORM_BYTES + 1), "MalformedInput", message);
        let role = "Action=GetRole&RoleName=a%2Fb";
        assert_eq!(answer(role.as_bytes(), ACCOUNT, None).unwrap_err().code(), "ValidationError");
    }

    #[test]
    fn what_a_client_wrote_cannot_leave_its_element() {
        assert_eq!(escaped("a<b>&\"'\u{1}"), "a&lt;b&gt;&amp;&quot;&apos;\u{fffd}");
        assert_eq!(escaped("GetRole"), "GetRole");
    }
}
