//! `InvokeEndpointAsync`: takes an invocation, and says where its answer will be.

use super::{
    control::host,
    error::ApiError,
    invocations::{Reception, artifact, endpoint_of, new_request_id},
    request::{self, Asked, InvalidRequest},
};
use crate::{
    async_invocations::{
        AcceptError, AsyncInvocations,
        job::{Job, JobHead, MAX_TIMEOUT_S, MAX_TTL_S, now_ms},
        output::{AsyncOutput, bare, is_clean, s3_object},
    },
    auth::{api::Api, error::AuthError},
    headers::{
        FAILURE_LOCATION, INPUT_LOCATION, MODEL_ACCEPT, MODEL_CONTENT_TYPE, OUTPUT_LOCATION,
        REQUEST_ID, TARGET_MODEL,
    },
    metrics::Outcome,
    objects::ObjectAddress,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue},
    web::{Data, Payload},
};
use bytes::Bytes;
use serde_json::json;
use shared::{api::invocation as wire, id::EndpointName, telemetry::Chain};
use std::error::Error;
use tracing::{debug, error};

/// SageMaker's bound for an input that comes with the invocation.
const MAX_INLINE_BYTES: usize = 128_000;

/// S3's own bound for a key (user guide, "Naming objects").
const MAX_KEY_BYTES: usize = 1024;

/// A header that is a number of seconds: its name, its member, its range and its default.
struct Seconds(&'static str, &'static str, u64, u64, u64);

const TTL: Seconds =
    Seconds("x-amzn-sagemaker-requestttlseconds", "requestTTLSeconds", 60, MAX_TTL_S, MAX_TTL_S);
const TIMEOUT: Seconds = Seconds(
    "x-amzn-sagemaker-invocationtimeoutseconds",
    "invocationTimeoutSeconds",
    1,
    MAX_TIMEOUT_S,
    900,
);

/// `POST /endpoints/{endpoint}/async-invocations`
pub async fn invoke(
    request: HttpRequest,
    mut payload: Payload,
    reception: Data<Reception>,
    jobs: Data<AsyncInvocations>,
) -> HttpResponse {
    let id = new_request_id();
    let accepted = accept(&request, &mut payload, &reception, &jobs, &id).await;
    match accepted {
        Ok(head) => response(&head, id),
        Err(refused) => {
            refused.log(&request, &id);
            if refused.answer.is_worth_reading() {
                reception.bodies.drain(&mut payload).await;
            }
            refused.answer.into_response(&id)
        }
    }
}

/// Why an invocation was not accepted, and what its client is told.
struct Refused {
    /// Only the log learns it.
    cause: String,
    answer: ApiError,
}

impl Refused {
    fn of<E: Error + 'static>(cause: E, answer: impl FnOnce(&E) -> ApiError) -> Self {
        Self { answer: answer(&cause), cause: Chain(&cause).to_string() }
    }

    fn of_auth(error: AuthError) -> Self {
        Self::of(error, ApiError::of_auth)
    }

    fn validation(message: &str) -> Self {
        Self { cause: message.to_owned(), answer: ApiError::validation(message) }
    }

    fn log(&self, request: &HttpRequest, id: &HeaderValue) {
        let Self { cause, answer } = self;
        let (endpoint, code) = (endpoint_of(request), answer.code());
        let target_model = request.headers().get(&TARGET_MODEL);
        if answer.outcome() == Outcome::InternalFailure {
            error!(
                invocation_id = ?id, endpoint, ?target_model, code, error = cause,
                "asynchronous invocation not accepted"
            );
        } else {
            debug!(
                invocation_id = ?id, endpoint, ?target_model, code, error = cause,
                "asynchronous invocation not accepted"
            );
        }
    }
}

async fn accept(
    request: &HttpRequest,
    payload: &mut Payload,
    reception: &Reception,
    jobs: &AsyncInvocations,
    id: &HeaderValue,
) -> Result<JobHead, Refused> {
    let name = endpoint_of(request);
    let invalid = |error| Refused::of(error, |it| ApiError::of_request(it, name, id));
    let visitor = reception.gate.admit(request, Api::Runtime).map_err(Refused::of_auth)?;
    let endpoint = request::endpoint_name(name).map_err(invalid)?;
    // A stranger must not learn what there is, so that the body comes first.
    let body = inline(request, payload, reception).await?;
    let caller = visitor.identify(&body).map_err(Refused::of_auth)?;
    let asked = parse(request.headers());
    let authorized = reception.authorize(&caller, &endpoint, asked.as_ref().ok());
    authorized
        .map_err(|answer| Refused { cause: "the caller may not do this".to_owned(), answer })?;
    let target = asked.as_ref().ok().and_then(|asked| asked.target_variant.as_ref());
    let picked = reception.endpoints.pick_variant(&endpoint, target);
    let unknown = |error| Refused::of(error, |it| ApiError::of_pick(it, &reception.identity));
    let variant = picked.map_err(unknown)?;
    let asked = asked.map_err(invalid)?;
    artifact(&asked, &variant).map_err(invalid)?;
    let output = reception.endpoints.async_output(&endpoint);
    let output = output.ok_or_else(|| no_output(&endpoint))?;
    let own_hosts: Vec<String> = host(request).into_iter().collect();
    let head = head(endpoint, asked, request.headers(), &output, &own_hosts).map_err(invalid)?;
    if let Some(input) = &head.input {
        // The router reads it with its own rights, so the caller must have them.
        let resource = || format!("arn:aws:s3:::{}/{}", input.bucket, input.key);
        caller.may("s3:GetObject", None, resource).map_err(Refused::of_auth)?;
    }
    if head.input.is_some() != body.is_empty() {
        let message = "Body and InputLocation are mutually exclusive. Provide exactly one of them.";
        return Err(Refused::validation(message));
    }
    let job = Job { head: head.clone(), inline: body };
    let refused = |error| {
        let answer = |it: &AcceptError| ApiError::of_accept(it, &reception.dispatch.config);
        Refused::of(error, answer)
    };
    jobs.accept(job).await.map_err(refused)?;
    Ok(head)
}

fn no_output(endpoint: &EndpointName) -> Refused {
    Refused::validation(&format!(
        "Endpoint {endpoint} takes no asynchronous invocations: its endpoint configuration has no \
         AsyncInferenceConfig with a valid S3OutputPath, and S3FailurePath if there is one."
    ))
}

/// As for `InvokeEndpoint`, but that the model's `Accept` and `Content-Type` have headers of their
/// own. The target model, which the operation does not know, is taken as well.
fn parse(request: &HeaderMap) -> Result<Asked, InvalidRequest> {
    let mut headers = request.clone();
    for (ours, theirs) in [(ACCEPT, &MODEL_ACCEPT), (CONTENT_TYPE, &MODEL_CONTENT_TYPE)] {
        headers.remove(&ours);
        if let Some(value) = request.get(theirs) {
            headers.insert(ours, value.clone());
        }
    }
    request::parse(&headers)
}

fn head(
    endpoint: EndpointName,
    asked: Asked,
    headers: &HeaderMap,
    output: &AsyncOutput,
    own_hosts: &[String],
) -> Result<JobHead, InvalidRequest> {
    let id = new_request_id().to_str().unwrap_or_default().to_owned();
    let folder = named(headers, "s3outputpathextension", "s3OutputPathExtension", is_folder)?;
    let name = named(headers, "filename", "filename", is_file_name)?;
    let name = name.map_or_else(|| format!("{id}.out"), str::to_owned);
    let output_at = short(output.output.object(folder, &name))?;
    let failure = output.failure.as_ref();
    let failure_at = failure.map(|it| short(it.object(folder, &format!("{id}-error.out"))));
    let forwarded = asked.forwarded.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    Ok(JobHead {
        id,
        endpoint,
        target_model: asked.target_model,
        target_variant: asked.target_variant,
        forwarded: forwarded.collect(),
        input: headers.get(&INPUT_LOCATION).map(|it| input_at(it, own_hosts)).transpose()?,
        output: output_at,
        failure: failure_at.transpose()?,
        accepted_at_ms: now_ms(),
        ttl_s: TTL.of(headers)?,
        timeout_s: TIMEOUT.of(headers)?,
    })
}

async fn inline(
    request: &HttpRequest,
    payload: &mut Payload,
    reception: &Reception,
) -> Result<Bytes, Refused> {
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let body = reception.bodies.read(payload, announced).await;
    let config = &reception.dispatch.config;
    let body = body.map_err(|error| Refused::of(error, |it| ApiError::of_body(it, config)))?.bytes;
    if body.len() > MAX_INLINE_BYTES {
        let constraint = "have length less than or equal to 128000";
        let error = InvalidRequest::Member { member: "body", value: None, constraint };
        let answer = ApiError::validation(&error.to_string());
        return Err(Refused { cause: error.to_string(), answer });
    }
    Ok(body)
}

fn response(head: &JobHead, id: HeaderValue) -> HttpResponse {
    let JobHead { output, failure, .. } = head;
    let inference_id = head.forwarded.iter().find(|(name, _)| name == wire::INFERENCE_ID);
    let inference_id = inference_id.map_or(&head.id, |(_, value)| value);
    let mut response = HttpResponse::Accepted();
    response
        .insert_header((REQUEST_ID.clone(), id))
        .insert_header((OUTPUT_LOCATION.clone(), output.to_string()));
    if let Some(failure) = failure {
        response.insert_header((FAILURE_LOCATION.clone(), failure.to_string()));
    }
    response.json(json!({ "InferenceId": inference_id }))
}

impl Seconds {
    fn of(&self, headers: &HeaderMap) -> Result<u64, InvalidRequest> {
        let Self(header, member, min, max, default) = self;
        let Some(value) = headers.get(*header) else {
            return Ok(*default);
        };
        let value = value.to_str().unwrap_or_default();
        match value.parse::<u64>() {
            Ok(seconds) if (*min..=*max).contains(&seconds) => Ok(seconds),
            _ => Err(invalid(member, value, self.constraint())),
        }
    }

    fn constraint(&self) -> &'static str {
        match self.3 {
            3600 => "have value between 1 and 3600",
            _ => "have value between 60 and 21600",
        }
    }
}

fn invalid(member: &'static str, value: &str, constraint: &'static str) -> InvalidRequest {
    InvalidRequest::Member { member, value: Some(value.to_owned()), constraint }
}

/// Returns a header that becomes part of a key.
fn named<'a>(
    headers: &'a HeaderMap,
    header: &str,
    member: &'static str,
    flaw: fn(&str) -> Option<&'static str>,
) -> Result<Option<&'a str>, InvalidRequest> {
    let Some(value) = headers.get(format!("x-amzn-sagemaker-{header}")) else {
        return Ok(None);
    };
    let value = value.to_str().unwrap_or_default();
    flaw(value).map_or(Ok(Some(value)), |constraint| Err(invalid(member, value, constraint)))
}

fn is_folder(value: &str) -> Option<&'static str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!_.*'()/-".contains(&byte);
    if value.len() > 512 {
        return Some("have length less than or equal to 512");
    }
    if !is_clean(bare(value)) {
        return Some("have parts that are neither empty nor `.` nor `..`");
    }
    (!value.bytes().all(legal))
        .then_some("satisfy regular expression pattern: ^(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+$")
}

fn is_file_name(value: &str) -> Option<&'static str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if value.len() > 32 {
        return Some("have length less than or equal to 32");
    }
    let is_legal = value.starts_with(|first: char| first.is_ascii_alphanumeric())
        && value.bytes().all(legal)
        && value.matches('.').count() < 2;
    (!is_legal).then_some(
        "satisfy regular expression pattern: ^(?!.*\\..*\\.)[a-zA-Z0-9][a-zA-Z0-9-_\\.]*$",
    )
}

fn input_at(location: &HeaderValue, own_hosts: &[String]) -> Result<ObjectAddress, InvalidRequest> {
    let location = std::str::from_utf8(location.as_bytes()).unwrap_or_default();
    let is_short = location.chars().count() <= 1024;
    let constraint = "name an object of S3 in at most 1024 characters";
    let object = s3_object(location, own_hosts).filter(|_| is_short);
    object.ok_or_else(|| invalid("inputLocation", location, constraint))
}

fn short(at: ObjectAddress) -> Result<ObjectAddress, InvalidRequest> {
    if at.key.len() > MAX_KEY_BYTES {
        let constraint = "make a key of at most 1024 bytes";
        return Err(invalid("s3OutputPathExtension", &at.key, constraint));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_outputs_are_sagemakers() {
        for good in ["a.out", "A-1_b", "0"] {
            assert_eq!(is_file_name(good), None, "{good}");
        }
        for bad in ["", ".a", "a.b.c", "a/b", "..", "ü"] {
            assert!(is_file_name(bad).is_some(), "{bad}");
        }
        assert!(is_file_name(&"x".repeat(33)).is_some());
        assert_eq!(is_folder("a/b'()!*"), None);
        assert!(is_folder("s3://b").is_some() && is_folder("").is_some());
        assert_eq!(is_folder("/a/b/"), None);
        for bad in ["..", "a/../b", "a//b", ".", "a/./b", "//", "/", "//a"] {
            assert!(is_folder(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn seconds_stay_in_their_range() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TTL.0.parse().unwrap(), HeaderValue::from_static(value));
            TTL.of(&headers)
        };
        assert_eq!(TTL.of(&HeaderMap::new()), Ok(21_600));
        assert_eq!((of("60"), of("21600")), (Ok(60), Ok(21_600)));
        for bad in ["59", "21601", "-1", "x", ""] {
            let error = of(bad).unwrap_err().to_string();
            assert!(error.contains("'requestTTLSeconds'"), "{error}");
        }
    }

    #[test]
    fn inputs_are_objects() {
        let at = |text| input_at(&HeaderValue::from_static(text), &["here:1".to_owned()]);
        assert_eq!(at("s3://bucket/a/b c").unwrap().key, "a/b c");
        for url in ["https://bucket.s3.amazonaws.com/a/b%20c", "https://here:1/bucket/a/b%20c"] {
            assert_eq!(at(url).unwrap().to_string(), "s3://bucket/a/b c", "{url}");
        }
        for bad in ["s3://bucket", "file:///etc/passwd", "https://example.com/a", ""] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }
}
