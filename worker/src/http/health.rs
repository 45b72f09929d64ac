//! `GET /ping` and `GET /metrics`.

use super::Face;
use actix_web::{HttpResponse, web};
use serde_json::json;

/// 200 while the instance can serve; 500 once an actor died that it cannot do without, 503 while its backend
/// does not serve.
pub(super) async fn ping(face: web::Data<Face>) -> HttpResponse {
    if face.instance.is_broken() {
        return HttpResponse::InternalServerError().finish();
    }
    if face.backend.as_ref().is_some_and(|backend| !backend.is_up()) {
        return HttpResponse::ServiceUnavailable().json(json!({ "status": "Unhealthy" }));
    }
    HttpResponse::Ok().json(json!({ "status": "Healthy" }))
}

pub(super) async fn metrics(face: web::Data<Face>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(shared::metrics::CONTENT_TYPE)
        .body(shared::metrics::encode_text(&face.registry))
}
