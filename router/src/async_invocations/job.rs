//! One asynchronous invocation, as it is kept until it is done.

use crate::{http::request::is_forwarded, objects::ObjectAddress};
use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::id::{EndpointName, TargetModel, VariantName};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// For how long after its time to live an outcome is written. Whoever waits for it has an outage of the
/// store behind them; ten minutes are most of those.
const GRACE: Duration = Duration::from_mins(10);

/// Everything that an invocation needs, also after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub head: JobHead,
    /// The input, if it came with the invocation.
    pub inline: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobHead {
    /// A UUID: the key of the job and of its outputs.
    pub id: String,
    pub endpoint: EndpointName,
    /// `None`: the endpoint has one model.
    pub target_model: Option<TargetModel>,
    pub target_variant: Option<VariantName>,
    /// The headers that the model may see; values as text, since all that are forwarded are.
    pub forwarded: Vec<(String, String)>,
    /// `None`: the input is inline.
    pub input: Option<ObjectAddress>,
    pub output: ObjectAddress,
    /// `None`: what becomes of a failed job is in the log alone.
    pub failure: Option<ObjectAddress>,
    pub accepted_at_ms: u64,
    /// At most [`MAX_TTL_S`].
    pub ttl_s: u64,
    /// At most [`MAX_TIMEOUT_S`].
    pub timeout_s: u64,
}

/// SageMaker's bounds (`InvokeEndpointAsync`), in seconds.
pub const MAX_TTL_S: u64 = 21_600;
pub const MAX_TIMEOUT_S: u64 = 3600;

impl Job {
    /// The head as JSON, a line feed, the inline input: a JSON array of bytes would be four times as
    /// long, and JSON on one line holds no line feed.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self.head).expect("names and numbers can be written");
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.inline);
        bytes
    }

    /// Times beyond their bounds are taken for those: others may have written the record.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let head_end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let mut head: JobHead = serde_json::from_slice(&bytes[..head_end])?;
        head.ttl_s = head.ttl_s.min(MAX_TTL_S);
        head.timeout_s = head.timeout_s.min(MAX_TIMEOUT_S);
        let inline = Bytes::copy_from_slice(bytes.get(head_end + 1..).unwrap_or_default());
        Ok(Self { head, inline })
    }
}

impl JobHead {
    /// Whether its client has given it up: it has waited for longer than it may.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.is_older(now, Duration::ZERO)
    }

    /// Whether what came of it is no longer to be written: its store was given the time.
    pub fn is_lost(&self, now: SystemTime) -> bool {
        self.is_older(now, GRACE)
    }

    fn is_older(&self, now: SystemTime, grace: Duration) -> bool {
        let accepted_at = UNIX_EPOCH + Duration::from_millis(self.accepted_at_ms);
        let longest = Duration::from_secs(self.ttl_s) + grace;
        now.duration_since(accepted_at).is_ok_and(|age| age > longest)
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }

    /// Returns the headers that the model may see. A record says them that others may have written:
    /// what else is in it is left out.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let header = |(name, value): &(String, String)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            Some((name.parse().ok().filter(is_forwarded)?, value))
        };
        self.forwarded.iter().filter_map(header).collect()
    }
}

/// Milliseconds since 1970: a clock that goes on over a restart.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn job(id: &str, inline: &'static [u8]) -> Job {
        let address =
            |key: &str| ObjectAddress { bucket: "bucket".to_owned(), key: key.to_owned() };
        let head = JobHead {
            id: id.to_owned(),
            endpoint: "demo".parse().unwrap(),
            target_model: Some("ü.tar.gz".parse().unwrap()),
            target_variant: None,
            forwarded: vec![("content-type".to_owned(), "text/csv".to_owned())],
            input: None,
            output: address("o"),
            failure: Some(address("f")),
            accepted_at_ms: 1000,
            ttl_s: 60,
            timeout_s: 900,
        };
        Job { head, inline: Bytes::from_static(inline) }
    }

    #[test]
    fn a_job_comes_back_as_it_went() {
        for inline in [&b""[..], b"\n", b"1,2\n3\0\xff"] {
            let job = job("a", inline);
            assert_eq!(Job::decode(&job.encode()).unwrap(), job);
        }
        assert!(Job::decode(b"{}\n").is_err());
        assert!(Job::decode(b"").is_err());
    }

    #[test]
    fn a_record_with_absurd_times_ends_nobody() {
        let mut job = job("a", b"");
        (job.head.ttl_s, job.head.timeout_s, job.head.accepted_at_ms) = (u64::MAX, u64::MAX, 0);
        let head = Job::decode(&job.encode()).unwrap().head;
        assert_eq!((head.ttl_s, head.timeout()), (MAX_TTL_S, Duration::from_hours(1)));
        assert!(head.is_lost(SystemTime::now()));
        job.head.accepted_at_ms = u64::MAX;
        assert!(!Job::decode(&job.encode()).unwrap().head.is_expired(SystemTime::now()));
    }

    #[test]
    fn a_record_of_a_job_cannot_say_how_its_body_is_framed() {
        let mut head = job("a", b"").head;
        for name in ["transfer-encoding", "content-length", "host", "x-manifold-artifact", "a\r\nb"]
        {
            head.forwarded.push((name.to_owned(), "chunked".to_owned()));
        }
        assert_eq!(head.headers().len(), 1);
    }

    #[test]
    fn a_job_expires_by_the_clock_of_the_world() {
        let head = job("a", b"").head;
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        assert!(!head.is_expired(at(61)) && head.is_expired(at(62)));
        assert!(!head.is_expired(at(0)), "a clock that was set back expires nothing");
        assert!(!head.is_lost(at(661)) && head.is_lost(at(662)));
        assert_eq!(head.headers()[0].0, "content-type");
    }
}
