//! `GET /ping` and `GET /metrics`.

use super::Face;
use actix_web::{HttpResponse, web};

/// 200 while the instance can serve; 500 once an actor died that it cannot do without.
pub(super) async fn ping(face: web::Data<Face>) -> HttpResponse {
    if face.instance.is_broken() {
        return HttpResponse::InternalServerError().finish();
    }
    HttpResponse::Ok().finish()
}

pub(super) async fn metrics(face: web::Data<Face>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(shared::metrics::CONTENT_TYPE)
        .body(shared::metrics::encode_text(&face.registry))
}
