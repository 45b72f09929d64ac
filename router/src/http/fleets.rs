//! What launchers ask and report: `POST /manifold/v1/fleets`.

use super::{error::ApiError, invocations::new_request_id};
use crate::{actors::deployments::Deployments, body::BodyReader};
use actix_web::{
    HttpResponse,
    web::{Data, Payload},
};
use shared::api::fleets::FleetsReport;

/// Takes a launcher's report; answers with the fleets that shall run.
pub async fn report(
    mut payload: Payload,
    deployments: Data<Deployments>,
    bodies: Data<BodyReader>,
) -> HttpResponse {
    let report = match read(&mut payload, &bodies).await {
        Ok(report) => report,
        Err(error) => {
            bodies.drain(&mut payload).await;
            return error.into_response(&new_request_id());
        }
    };
    match deployments.report(report).await {
        Ok(desired) => HttpResponse::Ok().json(&*desired),
        Err(_) => ApiError::unavailable("This router is overloaded or stopping.")
            .into_response(&new_request_id()),
    }
}

async fn read(payload: &mut Payload, bodies: &BodyReader) -> Result<FleetsReport, ApiError> {
    let body = bodies.read(payload, None).await;
    let body = body.map_err(|error| ApiError::validation(&format!("Not taken: {error}")))?;
    serde_json::from_slice(&body.bytes)
        .map_err(|error| ApiError::validation(&format!("Not a report of fleets: {error}")))
}
