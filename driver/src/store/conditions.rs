//! Conditional requests: what `If-Match` and its siblings mean for an object as it is.

use s3s::{
    S3Result,
    dto::{ETag, ETagCondition, Timestamp, TimestampFormat},
    s3_error,
};

/// The conditions of a GET or HEAD: `If-Match`, `If-None-Match` and their siblings for dates.
#[derive(Debug, Default)]
pub(super) struct ReadConditions {
    pub(super) etag: Option<ETagCondition>,
    pub(super) not_etag: Option<ETagCondition>,
    pub(super) modified_since: Option<Timestamp>,
    pub(super) unmodified_since: Option<Timestamp>,
}

/// The object as it is now.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) etag: Option<ETag>,
    pub(super) last_modified: Option<Timestamp>,
}

impl ReadConditions {
    pub(super) fn is_empty(&self) -> bool {
        let Self { etag, not_etag, modified_since, unmodified_since } = self;
        etag.is_none()
            && not_etag.is_none()
            && modified_since.is_none()
            && unmodified_since.is_none()
    }

    /// Checks in the order of RFC 9110, 13.2.2: an `ETag`'s condition outranks a time's.
    pub(super) fn check(&self, current: &Current) -> S3Result<()> {
        let is_modified_since = |time: &Timestamp| {
            current.last_modified.as_ref().is_none_or(|modified| whole_seconds(modified) > *time)
        };
        match (&self.etag, &self.unmodified_since) {
            (Some(condition), _) if !matches(condition, current) => {
                return Err(s3_error!(PreconditionFailed));
            }
            (None, Some(time)) if is_modified_since(time) => {
                return Err(s3_error!(PreconditionFailed));
            }
            _ => {}
        }
        match (&self.not_etag, &self.modified_since) {
            (Some(condition), _) if matches(condition, current) => Err(s3_error!(NotModified)),
            (None, Some(time)) if !is_modified_since(time) => Err(s3_error!(NotModified)),
            _ => Ok(()),
        }
    }
}

/// Checks the conditions of a PUT against what lies under its key, if anything does.
pub(super) fn check_write(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    current: Option<&Current>,
) -> S3Result<()> {
    let holds = |condition| current.is_some_and(|current| matches(condition, current));
    if if_match.is_some_and(|condition| !holds(condition)) || if_none_match.is_some_and(holds) {
        return Err(s3_error!(PreconditionFailed));
    }
    Ok(())
}

fn matches(condition: &ETagCondition, current: &Current) -> bool {
    match (condition, &current.etag) {
        (ETagCondition::Any, _) => true,
        (ETagCondition::ETag(expected), Some(etag)) => expected.value() == etag.value(),
        (ETagCondition::ETag(_), None) => false,
    }
}

/// HTTP's dates have no fractions, so an object's own date must lose its fraction to compare.
fn whole_seconds(time: &Timestamp) -> Timestamp {
    let mut text = Vec::new();
    let written = time.format(TimestampFormat::HttpDate, &mut text).is_ok();
    let text = String::from_utf8(text).unwrap_or_default();
    let parsed = Timestamp::parse(TimestampFormat::HttpDate, &text);
    parsed.ok().filter(|_| written).unwrap_or_else(|| time.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn etag(value: &str) -> ETagCondition {
        ETagCondition::ETag(ETag::Strong(value.to_owned()))
    }

    fn time(seconds: u64) -> Timestamp {
        (SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).into()
    }

    /// The object: `ETag` `a`, modified at 100.5 s.
    fn current() -> Current {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(100_500);
        Current { etag: Some(ETag::Strong("a".to_owned())), last_modified: Some(modified.into()) }
    }

    #[track_caller]
    fn check(conditions: &ReadConditions, expected: &str) {
        let answer = match conditions.check(&current()) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.code().as_str().to_owned(),
        };
        assert_eq!(answer, expected, "{conditions:?}");
    }

    #[test]
    fn reads_follow_etags_first_and_dates_second() {
        let none = ReadConditions::default;
        check(&none(), "ok");
        check(&ReadConditions { etag: Some(etag("a")), ..none() }, "ok");
        check(&ReadConditions { etag: Some(etag("b")), ..none() }, "PreconditionFailed");
        check(&ReadConditions { etag: Some(ETagCondition::Any), ..none() }, "ok");
        check(&ReadConditions { not_etag: Some(etag("a")), ..none() }, "NotModified");
        check(&ReadConditions { not_etag: Some(etag("b")), ..none() }, "ok");
        check(&ReadConditions { modified_since: Some(time(100)), ..none() }, "NotModified");
        check(&ReadConditions { modified_since: Some(time(99)), ..none() }, "ok");
        check(&ReadConditions { unmodified_since: Some(time(99)), ..none() }, "PreconditionFailed");
        check(&ReadConditions { unmodified_since: Some(time(100)), ..none() }, "ok");
        check(
            &ReadConditions { etag: Some(etag("a")), unmodified_since: Some(time(1)), ..none() },
            "ok",
        );
        check(
            &ReadConditions {
                not_etag: Some(etag("b")),
                modified_since: Some(time(500)),
                ..none()
            },
            "ok",
        );
    }

    #[test]
    fn writes_compare_and_set() {
        let ok = |matching: Option<ETagCondition>, other: Option<ETagCondition>, object| {
            check_write(matching.as_ref(), other.as_ref(), object).is_ok()
        };
        let object = current();
        assert!(ok(None, None, Some(&object)));
        assert!(ok(Some(etag("a")), None, Some(&object)));
        assert!(!ok(Some(etag("b")), None, Some(&object)));
        assert!(!ok(Some(etag("a")), None, None));
        assert!(!ok(None, Some(ETagCondition::Any), Some(&object)));
        assert!(ok(None, Some(ETagCondition::Any), None));
    }
}
