//! `GET /api-description`: the container contract as `OpenAPI` 3.0.

use actix_web::{HttpResponse, http::header::ContentType};

const DESCRIPTION: &str = include_str!("api.json");

pub(in crate::http) async fn describe() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(DESCRIPTION)
}
