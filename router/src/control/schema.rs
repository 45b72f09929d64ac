//! What the inputs of the control plane may hold: shapes as values, and one validator for all.
//!
//! boto3 checks required members, types and minima alone; the rest is left to the server (reference,
//! section 0). The facts are from the API model of 2017-07-24 (botocore 1.44.5).

pub mod containers;
pub mod deployments;
pub mod monitoring;
pub mod names;
pub mod operations;
mod validator;

pub use validator::{MAX_VIOLATIONS, validate};

use regex::Regex;
use std::sync::OnceLock;

/// What a value must look like.
#[derive(Debug)]
pub enum Shape {
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    /// At least zero: every number with a fraction in the API model is a weight.
    Weight,
    /// Seconds since the epoch.
    Timestamp,
    Text(Text),
    /// One of these words.
    Choice(&'static str),
    List {
        member: &'static Shape,
        min: usize,
        max: usize,
    },
    /// From text to text.
    Map {
        key: &'static Text,
        value: &'static Text,
        max: usize,
    },
    Structure(&'static [Member]),
}

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    pub name: &'static str,
    pub shape: &'static Shape,
    pub is_required: bool,
}

/// Bounds of a text, characters, and its pattern.
#[derive(Debug)]
pub struct Text {
    min: usize,
    max: usize,
    pattern: Option<Pattern>,
}

/// A pattern that the whole text must match.
#[derive(Debug)]
struct Pattern {
    /// As SageMaker's model and its errors have it.
    shown: &'static str,
    /// The same without looking around, which the regex library does not have: it takes linear time
    /// for any input.
    compiled_from: &'static str,
    /// Compiled at its first use, once per process: it is part of a constant, holds no state, and
    /// compiling costs a thousand times what matching does.
    regex: OnceLock<Regex>,
}

impl Pattern {
    fn is_match(&self, text: &str) -> bool {
        let regex = self.regex.get_or_init(|| {
            let whole = format!(r"\A(?:{})\z", self.compiled_from);
            Regex::new(&whole).expect("the patterns of the schema are compiled by a test")
        });
        regex.is_match(text)
    }
}

impl Text {
    pub const fn new(min: usize, max: usize, pattern: &'static str) -> Self {
        Self::looking_around(min, max, pattern, pattern)
    }

    /// For a pattern that looks around: what to show, and the same without.
    const fn looking_around(
        min: usize,
        max: usize,
        shown: &'static str,
        compiled_from: &'static str,
    ) -> Self {
        let pattern = Pattern { shown, compiled_from, regex: OnceLock::new() };
        Self { min, max, pattern: Some(pattern) }
    }

    /// Every constraint, in SageMaker's order and words.
    fn constraints(&self) -> Vec<String> {
        let mut constraints = vec![at_most(self.max), at_least(self.min)];
        constraints.extend(self.pattern.as_ref().map(Self::pattern_constraint));
        constraints
    }

    /// The constraints that a text does not satisfy.
    fn violated_by(&self, text: &str) -> Vec<String> {
        let n_chars = text.chars().count();
        let mut violated = Vec::new();
        if n_chars > self.max {
            violated.push(at_most(self.max));
        }
        if n_chars < self.min {
            violated.push(at_least(self.min));
        }
        let pattern = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text));
        violated.extend(pattern.map(Self::pattern_constraint));
        violated
    }

    fn pattern_constraint(pattern: &Pattern) -> String {
        format!("Member must satisfy regular expression pattern: {}", pattern.shown)
    }
}

fn at_most(max: usize) -> String {
    format!("Member must have length less than or equal to {max}")
}

fn at_least(min: usize) -> String {
    format!("Member must have length greater than or equal to {min}")
}

const fn required(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, is_required: true }
}

const fn optional(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, is_required: false }
}

const fn text(min: usize, max: usize, pattern: &'static str) -> Shape {
    Shape::Text(Text::new(min, max, pattern))
}

const fn integer(min: i64, max: i64) -> Shape {
    Shape::Integer { min, max }
}

const fn list(member: &'static Shape, min: usize, max: usize) -> Shape {
    Shape::List { member, min, max }
}

/// The largest integer of the API model: 32 bits.
const NO_MAX: i64 = i32::MAX as i64;
/// The smallest one.
const NO_MIN: i64 = i32::MIN as i64;

#[cfg(test)]
mod tests;
