//! What the calls of the container contract are told, in the query or as JSON, by the names and units of
//! Multi Model Server 1.1 (`docs/management_api.md` of its repository).

use super::n_processes;
use crate::{
    contract::{MAX_PAGE, Registration, Workers},
    http::error::HttpError,
    runtime::LoadOptions,
};
use actix_web::{HttpRequest, http::header::CONTENT_TYPE, web::Query};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use shared::address::ArtifactAddress;
use std::{fmt::Display, num::NonZeroUsize, str::FromStr, time::Duration};

/// A name may be any hash the platform likes; none is near this long.
const MAX_NAME_BYTES: usize = 1024;
/// Each is a process with an interpreter: more than any machine has cores for.
const MAX_WORKERS: usize = 1024;
/// More invocations than wait for one model by default.
const MAX_BATCH: usize = 65_536;
/// A minute: an invocation's own patience.
const MAX_BATCH_DELAY_MS: u64 = 60_000;
/// A day.
const MAX_TIMEOUT_S: u64 = 86_400;

/// What `POST /models` asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) registration: Registration,
    pub(super) is_synchronous: bool,
}

/// Numbers and booleans may be written as text: in a query they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Load {
    model_name: Option<String>,
    url: Option<String>,
    handler: Option<String>,
    runtime: Option<String>,
    #[serde(deserialize_with = "lenient")]
    batch_size: Option<usize>,
    #[serde(deserialize_with = "lenient")]
    max_batch_delay: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    initial_workers: Option<usize>,
    #[serde(deserialize_with = "lenient")]
    synchronous: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    response_timeout: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scale {
    #[serde(deserialize_with = "lenient")]
    min_worker: Option<usize>,
    #[serde(deserialize_with = "lenient")]
    max_worker: Option<usize>,
    #[serde(deserialize_with = "lenient")]
    synchronous: Option<bool>,
}

/// Reads what `POST /models` asks for: the body if it is JSON, else the query.
pub(super) fn load(request: &HttpRequest, body: &[u8]) -> Result<Wanted, HttpError> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let is_json = content_type.is_some_and(|it| it.starts_with("application/json"));
    // A body that does not say what it is can be nothing else.
    if is_json || (!body.is_empty() && request.query_string().is_empty()) {
        let load = serde_json::from_slice(body).map_err(|error| {
            HttpError::BadRequest(format!("the body is not a load request: {error}"))
        })?;
        return wanted(load, Duration::from_secs(1));
    }
    wanted(query(request.query_string())?, Duration::from_mins(1))
}

/// Checks a load request. Multi Model Server counts `response_timeout` in minutes in a query, and in
/// seconds in a body.
fn wanted(load: Load, unit: Duration) -> Result<Wanted, HttpError> {
    let missing = |what: &str| bad(format!("Parameter {what} is required."));
    let url = load.url.filter(|it| !it.is_empty()).ok_or_else(|| missing("url"))?;
    let name = load.model_name.filter(|it| !it.is_empty());
    let name = name.ok_or_else(|| missing("model_name"))?;
    if name.len() > MAX_NAME_BYTES {
        return Err(bad(format!("model_name must have 1 to {MAX_NAME_BYTES} bytes")));
    }
    if let Some(runtime) = load.runtime.filter(|it| !["python", "python3"].contains(&&**it)) {
        return Err(bad(format!("Invalid RuntimeType value: {runtime}")));
    }
    let (n_processes, is_idle) = n_processes(load.initial_workers);
    up_to("initial_workers", load.initial_workers, &MAX_WORKERS)?;
    up_to("batch_size", load.batch_size, &MAX_BATCH)?;
    up_to("max_batch_delay", load.max_batch_delay, &MAX_BATCH_DELAY_MS)?;
    let timeout =
        load.response_timeout.map(|it| unit.saturating_mul(u32::try_from(it).unwrap_or(u32::MAX)));
    up_to("response_timeout", timeout.map(|it| it.as_secs()), &MAX_TIMEOUT_S)?;
    let options = LoadOptions {
        handler: load.handler.filter(|it| !it.is_empty()),
        n_processes,
        batch_size: load.batch_size.and_then(NonZeroUsize::new),
        max_batch_delay: load.max_batch_delay.map(Duration::from_millis),
        timeout: timeout.filter(|it| !it.is_zero()),
    };
    let address = address(&url)?;
    let registration = Registration { name, url, address, options, is_idle };
    Ok(Wanted { registration, is_synchronous: load.synchronous.unwrap_or(true) })
}

/// Reads how many processes `PUT /models/{name}` asks for, and whether it shall be waited for.
pub(super) fn scale(text: &str) -> Result<(Workers, bool), HttpError> {
    let Scale { min_worker, max_worker, synchronous } = query(text)?;
    let min = min_worker.unwrap_or(1);
    let max = max_worker.unwrap_or(min);
    if max < min {
        return Err(bad("max_worker cannot be less than min_worker.".to_owned()));
    }
    up_to("max_worker", Some(max), &MAX_WORKERS)?;
    Ok((Workers { min, max }, synchronous.unwrap_or(false)))
}

/// Reads how many names to pass over and how many to list. What is not understood counts as not said.
pub(super) fn page(text: &str) -> (usize, usize) {
    let said = Query::<Vec<(String, String)>>::from_query(text).map(Query::into_inner);
    let said = said.unwrap_or_default();
    let number = |name: &str| {
        let value = said.iter().rev().find(|(it, _)| it == name);
        value.and_then(|(_, value)| value.parse::<usize>().ok())
    };
    let limit = number("limit").filter(|limit| (1..=MAX_PAGE).contains(limit));
    (number("next_page_token").unwrap_or(0), limit.unwrap_or(MAX_PAGE))
}

fn query<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, HttpError> {
    Query::from_query(text).map(Query::into_inner).map_err(|error| bad(error.to_string()))
}

fn up_to<T: PartialOrd + Display>(name: &str, value: Option<T>, most: &T) -> Result<(), HttpError> {
    match value {
        Some(value) if value > *most => Err(bad(format!("{name} {value} is above {most}"))),
        _ => Ok(()),
    }
}

/// The platform gives a folder, `/opt/ml/models/<hash>/model`; others may give an address.
fn address(url: &str) -> Result<ArtifactAddress, HttpError> {
    let address = if url.starts_with('/') { format!("file://{url}") } else { url.to_owned() };
    address.parse().map_err(|error| bad(format!("url: {error}")))
}

/// Takes a value as it is, or written as text.
fn lenient<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        other => other.to_string(),
    };
    let parsed = text.trim().to_ascii_lowercase().parse();
    parsed.map(Some).map_err(|_| D::Error::custom(format!("`{text}` is not a value for it")))
}

fn bad(text: String) -> HttpError {
    HttpError::BadRequest(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn by_query(query: &str) -> Result<Wanted, String> {
        let request = TestRequest::with_uri(&format!("/models?{query}")).to_http_request();
        load(&request, b"").map_err(|error| error.to_string())
    }

    fn by_json(body: &str) -> Result<Wanted, String> {
        let json = ("content-type", "application/json; charset=utf-8");
        let request = TestRequest::with_uri("/models").insert_header(json).to_http_request();
        load(&request, body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_load_is_told_by_query_or_by_json_and_numbers_may_be_text() {
        let query = "model_name=m&url=/opt/ml/models/m/model&handler=service:handle&batch_size=4\
            &max_batch_delay=20&initial_workers=2&synchronous=false&response_timeout=2";
        let json = r#"{"model_name": "m", "url": "/opt/ml/models/m/model", "handler": "service:handle",
            "batch_size": "4", "max_batch_delay": 20, "initial_workers": 2, "synchronous": "False",
            "response_timeout": 120, "preload_model": "true"}"#;
        for wanted in [by_query(query).unwrap(), by_json(json).unwrap()] {
            let Registration { name, url, address, options, is_idle } = wanted.registration;
            assert_eq!((&*name, &*url), ("m", "/opt/ml/models/m/model"));
            assert_eq!(address.to_string(), "file:///opt/ml/models/m/model");
            assert_eq!(options.handler.as_deref(), Some("service:handle"));
            assert_eq!(options.n_processes, NonZeroUsize::new(2));
            assert_eq!(options.batch_size, NonZeroUsize::new(4));
            assert_eq!(options.max_batch_delay, Some(Duration::from_millis(20)));
            assert_eq!(options.timeout, Some(Duration::from_mins(2)));
            assert!(!is_idle && !wanted.is_synchronous);
        }
    }

    #[test]
    fn a_load_that_says_little_is_the_platform_s() {
        let wanted = by_json(r#"{"model_name": "m", "url": "/m"}"#).unwrap();
        assert_eq!(wanted.registration.options, LoadOptions::default());
        assert!(wanted.is_synchronous && !wanted.registration.is_idle);
        let idle = by_query("model_name=m&url=/m&initial_workers=0").unwrap();
        assert!(idle.registration.is_idle);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        for (query, text) in [
            ("", "Parameter url is required."),
            ("url=", "Parameter url is required."),
            ("url=/m", "Parameter model_name is required."),
            ("url=/m&model_name=m&runtime=java", "Invalid RuntimeType value: java"),
            ("url=/m&model_name=m&initial_workers=2000", "initial_workers 2000 is above 1024"),
            ("url=/m&model_name=m&response_timeout=2000", "response_timeout 120000 is above 86400"),
            ("url=m&model_name=m", "url: "),
        ] {
            let refused = by_query(query).unwrap_err();
            assert!(refused.starts_with(text), "{query}: {refused}");
        }
        for body in
            ["", "{", "[]", "\"x\"", r#"{"url": "/m", "model_name": "m", "batch_size": -1}"#]
        {
            assert!(by_json(body).is_err(), "{body}");
        }
    }

    #[test]
    fn processes_are_counted_as_multi_model_server_does() {
        let workers = |query| scale(query).map_err(|error| error.to_string());
        assert_eq!(workers(""), Ok((Workers { min: 1, max: 1 }, false)));
        let two = Workers { min: 2, max: 2 };
        assert_eq!(workers("min_worker=2&synchronous=true"), Ok((two, true)));
        assert_eq!(workers("min_worker=0&max_worker=3"), Ok((Workers { min: 0, max: 3 }, false)));
        assert_eq!(
            workers("min_worker=3&max_worker=2"),
            Err("max_worker cannot be less than min_worker.".to_owned())
        );
        assert!(workers("min_worker=-1").is_err() && workers("max_worker=99999").is_err());
    }

    #[test]
    fn pages_that_make_no_sense_are_the_first() {
        assert_eq!(page(""), (0, MAX_PAGE));
        assert_eq!(page("limit=7&next_page_token=14"), (14, 7));
        assert_eq!(page("limit=0&next_page_token=-2"), (0, MAX_PAGE));
        assert_eq!(page("limit=101&next_page_token=x"), (0, MAX_PAGE));
    }
}
