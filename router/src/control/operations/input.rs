//! Reads members of an input that the schema has validated.

use crate::control::{
    catalog::Tag,
    error::{ControlError, violation},
};
use serde_json::{Map, Value};

/// Tags of one resource.
pub(super) const MAX_TAGS: usize = 50;

pub(super) type Input = Map<String, Value>;

/// The text of a member; empty if it is absent.
pub(super) fn text<'a>(input: &'a Input, member: &str) -> &'a str {
    input.get(member).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn structure<'a>(input: &'a Input, member: &str) -> Option<&'a Input> {
    input.get(member).and_then(Value::as_object)
}

/// The structures of a list; none if it is absent.
pub(super) fn structures<'a>(
    input: &'a Input,
    member: &str,
) -> impl Iterator<Item = &'a Input> + Clone {
    input.get(member).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// A count; `None` if it is absent.
pub(super) fn count(input: &Input, member: &str) -> Option<u32> {
    input.get(member).and_then(Value::as_u64).and_then(|value| u32::try_from(value).ok())
}

pub(super) fn is_true(input: &Input, member: &str) -> bool {
    input.get(member).and_then(Value::as_bool).unwrap_or_default()
}

/// Refuses an absent member that the API model calls optional and the service requires.
pub(super) fn missing(path: &str) -> ControlError {
    ControlError::violations(&[violation("null", path, "Member must not be null")])
}

/// Takes the tags out of an input: they live beside it and change alone.
pub(super) fn take_tags(input: &mut Input) -> Result<Vec<Tag>, ControlError> {
    let tags = input.remove("Tags").unwrap_or_else(|| Value::Array(Vec::new()));
    let tags: Vec<Tag> = serde_json::from_value(tags).map_err(|_| ControlError::internal())?;
    let mut keys: Vec<&str> = tags.iter().map(|tag| &*tag.key).collect();
    for key in &keys {
        check_tag_key(key)?;
    }
    keys.sort_unstable();
    let is_twice = |pair: &&[&str]| pair[0] == pair[1];
    if let Some([key, ..]) = keys.windows(2).find(is_twice) {
        return Err(ControlError::validation(format!("Duplicate tag key: {key}")));
    }
    Ok(tags)
}

/// Refuses keys that are AWS's own.
pub(super) fn check_tag_key(key: &str) -> Result<(), ControlError> {
    let prefix = key.get(..4).unwrap_or_default();
    if prefix.eq_ignore_ascii_case("aws:") {
        let message = format!("System prefix 'aws:' reserved for AWS usage in tag key: {key}");
        return Err(ControlError::validation(message));
    }
    Ok(())
}
