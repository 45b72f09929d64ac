//! The attributes of a node, which MXNet writes as Python does: `(3, 3)`, `True`, `None`.

use super::MxnetError;
use std::collections::HashMap;

/// The most numbers of one tuple: dimensions.
const MAX_NUMBERS: usize = 32;

/// A node's attributes. Each error names the node.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime::mxnet) struct Attributes<'a> {
    pub(in crate::runtime::mxnet) node: &'a str,
    pub(in crate::runtime::mxnet) values: &'a HashMap<String, String>,
}

impl<'a> Attributes<'a> {
    /// The text, unless it is absent or `None`.
    pub(in crate::runtime::mxnet) fn text(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(|it| it.trim()).filter(|it| *it != "None")
    }

    pub(in crate::runtime::mxnet) fn number(
        &self,
        name: &str,
        default: f64,
    ) -> Result<f64, MxnetError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|it: &f64| it.is_finite());
        number.ok_or_else(|| self.wrong(name, text))
    }

    pub(in crate::runtime::mxnet) fn integer(
        &self,
        name: &str,
        default: i64,
    ) -> Result<i64, MxnetError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.trim_end_matches('L').parse().map_err(|_| self.wrong(name, text))
    }

    pub(in crate::runtime::mxnet) fn is_set(
        &self,
        name: &str,
        default: bool,
    ) -> Result<bool, MxnetError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        match text {
            "True" | "true" | "1" => Ok(true),
            "False" | "false" | "0" => Ok(false),
            _ => Err(self.wrong(name, text)),
        }
    }

    /// A tuple of integers, or one; an empty one is absent.
    pub(in crate::runtime::mxnet) fn integers(
        &self,
        name: &str,
    ) -> Result<Option<Vec<i64>>, MxnetError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let inner = text.trim_start_matches(['(', '[']).trim_end_matches([')', ']']);
        let parts = inner.split(',').map(str::trim).filter(|it| !it.is_empty());
        let numbers: Result<Vec<i64>, _> =
            parts.map(|it| it.trim_end_matches('L').parse()).collect();
        let numbers = numbers.map_err(|_| self.wrong(name, text))?;
        if numbers.len() > MAX_NUMBERS {
            return Err(self.wrong(name, text));
        }
        Ok((!numbers.is_empty()).then_some(numbers))
    }

    pub(in crate::runtime::mxnet) fn wrong(&self, name: &str, text: &str) -> MxnetError {
        let shown: String = text.chars().take(80).collect();
        MxnetError::Attribute { node: self.node.to_owned(), name: name.to_owned(), value: shown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_python_writes_them() {
        let values = [
            ("kernel", "(3, 3)"),
            ("short", "(7,)"),
            ("single", "5"),
            ("long", "3L"),
            ("empty", "()"),
            ("none", "None"),
            ("yes", "True"),
            ("no", "0"),
            ("eps", "2e-05"),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let attributes = Attributes { node: "n", values: &values };
        let integers = |name| attributes.integers(name).unwrap();
        assert_eq!(integers("kernel"), Some(vec![3, 3]));
        assert_eq!(integers("short"), Some(vec![7]));
        assert_eq!(integers("single"), Some(vec![5]));
        assert_eq!(integers("empty"), None);
        assert_eq!(integers("none"), None);
        assert_eq!(integers("absent"), None);
        assert_eq!(attributes.integer("long", 0).unwrap(), 3);
        assert!(
            attributes.is_set("yes", false).unwrap() && !attributes.is_set("no", true).unwrap()
        );
        assert!((attributes.number("eps", 0.0).unwrap() - 2e-5).abs() < 1e-12);
        let error = attributes.integer("kernel", 0).unwrap_err().to_string();
        assert!(error.contains("node `n` has `kernel` = `(3, 3)`"), "{error}");
    }
}
