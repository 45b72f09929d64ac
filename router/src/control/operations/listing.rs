//! Lists: filtered, sorted, in pages.
//!
//! A token holds the place of the last record shown, never a count: records that come or go between
//! two pages make no other record appear twice or not at all.

use super::input::{Input, count, text};
use crate::control::{
    catalog::{EndpointStatus, Timestamp},
    error::ControlError,
};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use xxhash_rust::xxh3::xxh3_64;

/// What SageMaker documents for `ListEndpoints`.
const DEFAULT_PAGE: u32 = 10;

/// A record as lists see it.
pub(super) struct Row<'a, R> {
    /// Its key in the catalog: unique.
    pub key: &'a str,
    pub name: &'a str,
    pub created: Timestamp,
    /// When it was last modified, and its state: of endpoints alone.
    pub changing: Option<(Timestamp, EndpointStatus)>,
    pub record: &'a R,
}

/// Some records in order, and where the next page begins.
pub(super) struct Page<'a, R> {
    records: Vec<&'a R>,
    next_token: Option<String>,
}

impl<R> Page<'_, R> {
    /// Writes the page as a list under a name of its own.
    pub(super) fn output(&self, member: &str, summary: impl Fn(&R) -> Value) -> Value {
        let mut output = Map::new();
        let records = self.records.iter().map(|record| summary(record)).collect();
        output.insert(member.to_owned(), records);
        if let Some(token) = &self.next_token {
            output.insert("NextToken".to_owned(), Value::String(token.clone()));
        }
        Value::Object(output)
    }
}

/// Where a record stands in a list: by what the list is sorted by, then by its key, so that no two
/// records share a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    sorted_by: u64,
    key: String,
}

/// Returns the page that an input asks for.
pub(super) fn page<'a, R>(
    operation: &str,
    rows: impl Iterator<Item = Row<'a, R>>,
    input: &Input,
) -> Result<Page<'a, R>, ControlError> {
    let query = fingerprint(operation, input);
    let after = match text(input, "NextToken") {
        "" => None,
        token => Some(read_token(token, query).ok_or_else(invalid_token)?),
    };
    let is_ascending = text(input, "SortOrder") == "Ascending";
    let sort_by = text(input, "SortBy");
    let comes_later = |place: &Place| match &after {
        None => true,
        Some(after) if is_ascending => place > after,
        Some(after) => place < after,
    };
    let mut rows: Vec<(Place, &R)> = rows
        .filter(|row| is_wanted(row, input))
        .map(|row| (place(&row, sort_by), row.record))
        .filter(|(place, _)| comes_later(place))
        .collect();
    rows.sort_by(
        |(left, _), (right, _)| {
            if is_ascending { left.cmp(right) } else { right.cmp(left) }
        },
    );

    let n_wanted = count(input, "MaxResults").unwrap_or(DEFAULT_PAGE) as usize;
    let has_more = rows.len() > n_wanted;
    rows.truncate(n_wanted);
    let last = rows.last().filter(|_| has_more);
    let next_token = last.map(|(place, _)| write_token(place, query));
    Ok(Page { records: rows.into_iter().map(|(_, record)| record).collect(), next_token })
}

fn place<R>(row: &Row<'_, R>, sort_by: &str) -> Place {
    let sorted_by = match (sort_by, row.changing) {
        // The key is the name.
        ("Name", _) => 0,
        // Eight letters tell all states apart, in the order of the alphabet.
        ("Status", Some((_, status))) => {
            let letters = status.as_str().bytes().chain([0; 8]).take(8);
            letters.fold(0, |number, letter| number << 8 | u64::from(letter))
        }
        _ => row.created.0,
    };
    Place { sorted_by, key: row.key.to_owned() }
}

fn is_wanted<R>(row: &Row<'_, R>, input: &Input) -> bool {
    let seconds = |member: &str| input.get(member).and_then(Value::as_f64);
    let is_within = |time: Timestamp, after: &str, before: &str| {
        seconds(after).is_none_or(|after| time.seconds() >= after)
            && seconds(before).is_none_or(|before| time.seconds() < before)
    };
    let is_changing_wanted = row.changing.is_none_or(|(modified, status)| {
        let wanted = text(input, "StatusEquals");
        is_within(modified, "LastModifiedTimeAfter", "LastModifiedTimeBefore")
            && (wanted.is_empty() || wanted == status.as_str())
    });
    row.name.contains(text(input, "NameContains"))
        && is_within(row.created, "CreationTimeAfter", "CreationTimeBefore")
        && is_changing_wanted
}

/// Tells lists apart, so that a token of one is not taken for a place in another. A page may have
/// any size.
fn fingerprint(operation: &str, input: &Input) -> u64 {
    let mut text = operation.to_owned();
    for (member, value) in input {
        if member != "NextToken" && member != "MaxResults" {
            write!(text, " {member}={value}").expect("a string takes all");
        }
    }
    xxh3_64(text.as_bytes())
}

/// Writes a token: query, place, and a checksum, which finds what was cut or mistyped. It keeps no
/// secret: a forged token names a place in a list that its client may read anyway.
fn write_token(place: &Place, query: u64) -> String {
    let body = format!("{query:016x}{:016x}{}", place.sorted_by, place.key);
    let checksum = xxh3_64(body.as_bytes());
    format!("{checksum:016x}{body}")
}

fn read_token(token: &str, query: u64) -> Option<Place> {
    let (checksum, body) = token.split_at_checked(16)?;
    let (of_query, rest) = body.split_at_checked(16)?;
    let (sorted_by, key) = rest.split_at_checked(16)?;
    let is_whole = *checksum == *format!("{:016x}", xxh3_64(body.as_bytes()));
    if !is_whole || *of_query != *format!("{query:016x}") {
        return None;
    }
    Some(Place { sorted_by: u64::from_str_radix(sorted_by, 16).ok()?, key: key.to_owned() })
}

/// Also for tokens of lists that never have a second page.
pub(super) fn invalid_token() -> ControlError {
    ControlError::validation("Invalid pagination token.")
}

#[cfg(test)]
mod tests;
