//! Walks an input along its shape, and yields every violation in SageMaker's words.
//!
//! The walk follows the shape, never the input, so that its depth is the schema's. What the shape
//! does not name is dropped, as SageMaker does: newer clients send more.

use super::{Member, Shape, Text, at_least, at_most};
use crate::control::error::{ControlError, violation};
use serde_json::{Map, Value};

/// More than any honest input has, and a bound for the message: each may name 277 instance types.
pub const MAX_VIOLATIONS: usize = 10;

/// How much of a refused value is shown: enough to know it again. Characters.
const MAX_SHOWN: usize = 1024;

/// Returns the input without members that the shape does not know.
pub fn validate(shape: &Shape, input: Value) -> Result<Map<String, Value>, ControlError> {
    let mut walk = Walk { path: String::new(), violations: Vec::new() };
    let input = walk.value(shape, input)?;
    if !walk.violations.is_empty() {
        return Err(ControlError::violations(&walk.violations));
    }
    match input {
        Value::Object(members) => Ok(members),
        _ => Err(found_unexpected(&input)),
    }
}

struct Walk {
    /// `productionVariants.1.member`.
    path: String,
    violations: Vec<String>,
}

impl Walk {
    /// Returns the value without unknown members. An error is a value of the wrong type, with which
    /// SageMaker's parser stops.
    fn value(&mut self, shape: &Shape, value: Value) -> Result<Value, ControlError> {
        match (shape, value) {
            (Shape::Structure(members), Value::Object(values)) => self.structure(members, values),
            (Shape::List { member, min, max }, Value::Array(values)) => {
                self.list(member, (*min, *max), values)
            }
            (Shape::Map { key, value, max }, Value::Object(values)) => {
                self.map((key, value), *max, values)
            }
            (Shape::Text(text), Value::String(value)) => {
                for constraint in text.violated_by(&value) {
                    self.violated(&quoted(&value), &constraint);
                }
                Ok(Value::String(value))
            }
            (Shape::Choice(words), Value::String(value)) => {
                if !is_choice(words, &value) {
                    self.violated(&quoted(&value), &choice_constraint(words));
                }
                Ok(Value::String(value))
            }
            (Shape::Integer { min, max }, value) => self.integer((*min, *max), value),
            (Shape::Weight, value) => self.weight(value),
            (Shape::Boolean, Value::Bool(value)) => Ok(Value::Bool(value)),
            (Shape::Timestamp, Value::Number(value)) => Ok(Value::Number(value)),
            (shape, value) => Err(wrong_type(shape, &value)),
        }
    }

    fn structure(
        &mut self,
        members: &[Member],
        mut values: Map<String, Value>,
    ) -> Result<Value, ControlError> {
        let mut known = Map::new();
        for member in members {
            let outer = self.path.len();
            self.enter(&lower_camel(member.name));
            // Clients may write an absent member as null.
            match values.remove(member.name).filter(|value| !value.is_null()) {
                Some(value) => {
                    known.insert(member.name.to_owned(), self.value(member.shape, value)?);
                }
                None if member.is_required => self.violated("null", "Member must not be null"),
                None => {}
            }
            self.path.truncate(outer);
        }
        Ok(Value::Object(known))
    }

    fn list(
        &mut self,
        member: &Shape,
        (min, max): (usize, usize),
        values: Vec<Value>,
    ) -> Result<Value, ControlError> {
        if values.len() > max {
            self.violated(&shown(&Value::Array(values)), &at_most(max));
            // Not looked into: the work stays bounded by the schema.
            return Ok(Value::Array(Vec::new()));
        }
        if values.len() < min {
            self.violated("'[]'", &at_least(min));
        }
        self.plain_members(member, &values)?;
        let mut known = Vec::with_capacity(values.len());
        for (idx, value) in values.into_iter().enumerate() {
            let outer = self.path.len();
            self.enter(&format!("{}.member", idx + 1));
            if value.is_null() {
                self.violated("null", "Member must not be null");
            } else if is_plain(member) {
                known.push(value);
            } else {
                known.push(self.value(member, value)?);
            }
            self.path.truncate(outer);
        }
        Ok(Value::Array(known))
    }

    /// Checks the members of a list of plain values, which are told with the list.
    fn plain_members(&mut self, member: &Shape, values: &[Value]) -> Result<(), ControlError> {
        if !is_plain(member) {
            return Ok(());
        }
        let mut is_violated = false;
        for value in values.iter().filter(|value| !value.is_null()) {
            let text = value.as_str().ok_or_else(|| wrong_type(member, value))?;
            is_violated |= match member {
                Shape::Text(bounds) => !bounds.violated_by(text).is_empty(),
                Shape::Choice(words) => !is_choice(words, text),
                _ => false,
            };
        }
        if is_violated {
            let constraints = match member {
                Shape::Text(bounds) => bounds.constraints().join(", "),
                Shape::Choice(words) => choice_constraint(words),
                _ => String::new(),
            };
            let value = shown(&Value::Array(values.to_vec()));
            self.violated(&value, &format!("Member must satisfy constraint: [{constraints}]"));
        }
        Ok(())
    }

    fn map(
        &mut self,
        (key_bounds, value_bounds): (&Text, &Text),
        max: usize,
        values: Map<String, Value>,
    ) -> Result<Value, ControlError> {
        let (mut bad_key, mut bad_value, mut has_null) = (false, false, false);
        for (key, value) in values.iter().take(max) {
            bad_key |= !key_bounds.violated_by(key).is_empty();
            match value {
                Value::String(value) => bad_value |= !value_bounds.violated_by(value).is_empty(),
                Value::Null => has_null = true,
                other => return Err(cannot_convert(other, "String")),
            }
        }
        let is_too_long = values.len() > max;
        let values = Value::Object(values);
        let in_map = |noun: &str, bounds: &Text| {
            format!("Map {noun} must satisfy constraint: [{}]", bounds.constraints().join(", "))
        };
        if is_too_long {
            self.violated(&shown(&values), &at_most(max));
        }
        if bad_key {
            self.violated(&shown(&values), &in_map("keys", key_bounds));
        }
        if bad_value {
            self.violated(&shown(&values), &in_map("value", value_bounds));
        }
        if has_null {
            let constraint = "Map value must satisfy constraint: [Member must not be null]";
            self.violated(&shown(&values), constraint);
        }
        Ok(values)
    }

    fn integer(&mut self, (min, max): (i64, i64), value: Value) -> Result<Value, ControlError> {
        let is_32_bits = |value: &i64| i32::try_from(*value).is_ok();
        let number = value.as_i64().filter(is_32_bits);
        let number = number.ok_or_else(|| cannot_convert(&value, "Integer"))?;
        if number > max {
            let constraint = format!("Member must have value less than or equal to {max}");
            self.violated(&quoted(&number.to_string()), &constraint);
        }
        if number < min {
            let constraint = format!("Member must have value greater than or equal to {min}");
            self.violated(&quoted(&number.to_string()), &constraint);
        }
        Ok(value)
    }

    fn weight(&mut self, value: Value) -> Result<Value, ControlError> {
        // SageMaker's floats have 32 bits. So bounded, ten of them add up without an overflow.
        let number = value.as_f64().filter(|number| number.abs() <= f64::from(f32::MAX));
        let number = number.ok_or_else(|| cannot_convert(&value, "Float"))?;
        if number < 0.0 {
            let constraint = "Member must have value greater than or equal to 0";
            self.violated(&quoted(&value.to_string()), constraint);
        }
        Ok(value)
    }

    fn enter(&mut self, part: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(part);
    }

    fn violated(&mut self, value: &str, constraint: &str) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(violation(value, &self.path, constraint));
        }
    }
}

/// Whether a list of it is told as a whole when a member is wrong.
fn is_plain(shape: &Shape) -> bool {
    matches!(shape, Shape::Text(_) | Shape::Choice(_))
}

fn is_choice(words: &str, value: &str) -> bool {
    words.split_whitespace().any(|word| word == value)
}

fn choice_constraint(words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    format!("Member must satisfy enum value set: [{}]", words.join(", "))
}

/// `InitialVariantWeight` as SageMaker's errors write it.
fn lower_camel(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

fn quoted(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("'{}...'", &value[..end]),
        None => format!("'{value}'"),
    }
}

/// Writes a value as Java does: `'[a, b]'`, `'{k=v}'`.
fn shown(value: &Value) -> String {
    let mut text = String::new();
    show(value, &mut text);
    quoted(&text)
}

fn show(value: &Value, text: &mut String) {
    // What is left out is not written: inputs may be large.
    if text.len() > MAX_SHOWN * char::MAX.len_utf8() {
        return;
    }
    match value {
        Value::String(value) => text.push_str(value),
        Value::Array(values) => {
            text.push('[');
            for (idx, value) in values.iter().enumerate() {
                text.push_str(if idx > 0 { ", " } else { "" });
                show(value, text);
            }
            text.push(']');
        }
        Value::Object(values) => {
            text.push('{');
            for (idx, (key, value)) in values.iter().enumerate() {
                text.push_str(if idx > 0 { ", " } else { "" });
                text.push_str(key);
                text.push('=');
                show(value, text);
            }
            text.push('}');
        }
        other => text.push_str(&other.to_string()),
    }
}

fn wrong_type(shape: &Shape, value: &Value) -> ControlError {
    match shape {
        Shape::Boolean => cannot_convert(value, "Boolean"),
        Shape::Integer { .. } => cannot_convert(value, "Integer"),
        Shape::Weight => cannot_convert(value, "Float"),
        Shape::Timestamp => cannot_convert(value, "Timestamp"),
        Shape::Text(_) | Shape::Choice(_) => cannot_convert(value, "String"),
        Shape::List { .. } | Shape::Map { .. } | Shape::Structure(_) => found_unexpected(value),
    }
}

fn cannot_convert(value: &Value, wanted: &str) -> ControlError {
    let found = match value {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(number) if number.is_f64() => "DECIMAL_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) | Value::Object(_) => return found_unexpected(value),
    };
    ControlError::serialization(format!("{found} cannot be converted to {wanted}"))
}

fn found_unexpected(value: &Value) -> ControlError {
    ControlError::serialization(match value {
        Value::Array(_) => "Start of list found where not expected",
        Value::Object(_) => "Start of structure or map found where not expected",
        _ => "Unexpected field type",
    })
}
