//! Classification answers: from a row of numbers to the most probable classes, with their names.
//!
//! One row answers with a list of classes; a batch of several rows with a list of such lists.

use super::{
    RuntimeError, archive,
    manifest::{ClassFormat, Classification},
    tensor::{Elements, TensorData},
};
use serde::Serialize;
use std::{borrow::Cow, fs::File, io::Read, path::Path};

/// The largest labels file: a million classes with short names.
const MAX_LABELS_BYTES: u64 = 16 << 20;

/// How the outputs of one model become classes.
#[derive(Debug)]
pub(super) struct Classes {
    settings: Classification,
    /// One name per class; empty if the manifest names no file.
    labels: Vec<String>,
}

/// One class of an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Class<'a> {
    probability: f32,
    class: &'a str,
}

/// The answer for one row, in the format that the manifest asks for.
#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    Strings(Vec<String>),
    Objects(Vec<Class<'a>>),
}

impl Classes {
    /// Reads the labels that `settings` names in the folder `artifact`.
    pub(super) fn open(artifact: &Path, settings: &Classification) -> Result<Self, RuntimeError> {
        let labels = match &settings.labels {
            Some(name) => read_labels(artifact, name)?,
            None => Vec::new(),
        };
        Ok(Self { settings: settings.clone(), labels })
    }

    /// Returns the JSON body for an output of shape `[classes]` or `[batch, classes]`.
    pub(super) fn answer(&self, output: &TensorData) -> Result<Vec<u8>, RuntimeError> {
        let n_classes = self.check_shape(&output.shape)?;
        let values = floats(&output.elements)?;
        let rows: Result<Vec<_>, _> =
            values.chunks_exact(n_classes).map(|it| self.top(it)).collect();
        let rows: Vec<Vec<(usize, f32)>> = rows?;
        // A class without a name is called by its number.
        let names: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|(idx, _)| self.name(*idx)).collect()).collect();
        let rows: Vec<Row<'_>> =
            rows.iter().zip(&names).map(|(row, names)| self.format(row, names)).collect();
        let body = match rows.as_slice() {
            [one] => serde_json::to_vec(one),
            several => serde_json::to_vec(several),
        };
        Ok(body.expect("strings and finite numbers can be written"))
    }

    /// Returns how many classes there are.
    pub(super) fn check_shape(&self, shape: &[i64]) -> Result<usize, RuntimeError> {
        let ([n_classes] | [_, n_classes]) = shape else {
            let text = format!(
                "its output has the shape {shape:?}, a classification needs [classes] or \
                 [batch, classes]"
            );
            return Err(failed(&text));
        };
        let n_classes = usize::try_from(*n_classes).ok().filter(|n| *n > 0);
        let n_classes = n_classes.ok_or_else(|| failed("its output has no classes"))?;
        if !self.labels.is_empty() && self.labels.len() != n_classes {
            let n_labels = self.labels.len();
            let text = format!("it gives {n_classes} classes, its labels file names {n_labels}");
            return Err(failed(&text));
        }
        Ok(n_classes)
    }

    /// Returns the most probable classes of one row with their probabilities, best first.
    fn top(&self, row: &[f32]) -> Result<Vec<(usize, f32)>, RuntimeError> {
        if let Some(odd) = row.iter().find(|it| !it.is_finite()) {
            return Err(failed(&format!("its output holds {odd}")));
        }
        let mut best: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
        let k = self.settings.top_k.min(best.len());
        let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if k < best.len() {
            best.select_nth_unstable_by(k, order);
            best.truncate(k);
        }
        best.sort_unstable_by(order);
        if self.settings.softmax {
            let max = best[0].1;
            let sum: f32 = row.iter().map(|it| (it - max).exp()).sum();
            for (_, value) in &mut best {
                *value = (*value - max).exp() / sum;
            }
        }
        Ok(best)
    }

    fn name(&self, idx: usize) -> String {
        self.labels.get(idx).cloned().unwrap_or_else(|| idx.to_string())
    }

    fn format<'a>(&self, row: &[(usize, f32)], names: &'a [String]) -> Row<'a> {
        let classes = row.iter().zip(names);
        match self.settings.format {
            ClassFormat::Strings => Row::Strings(
                classes
                    .map(|((_, probability), class)| {
                        format!("probability={probability:.6}, class={class}")
                    })
                    .collect(),
            ),
            ClassFormat::Objects => Row::Objects(
                classes
                    .map(|((_, probability), class)| Class { probability: *probability, class })
                    .collect(),
            ),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "six digits are shown")]
fn floats(elements: &Elements) -> Result<Cow<'_, [f32]>, RuntimeError> {
    match elements {
        Elements::Float32(values) => Ok(Cow::Borrowed(values)),
        Elements::Float64(values) => Ok(values.iter().map(|it| *it as f32).collect()),
        other => {
            let dtype = other.dtype().as_str();
            Err(failed(&format!("its output is {dtype}, a classification needs floats")))
        }
    }
}

fn read_labels(artifact: &Path, name: &str) -> Result<Vec<String>, RuntimeError> {
    let bad = |why: String| RuntimeError::BadArtifact(format!("labels file `{name}` {why}"));
    let path = archive::existing_file(artifact, name)?;
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_LABELS_BYTES + 1).read_to_end(&mut text))
        .map_err(|error| bad(format!("cannot be read: {error}")))?;
    if text.len() as u64 > MAX_LABELS_BYTES {
        return Err(bad(format!("is larger than {MAX_LABELS_BYTES} bytes")));
    }
    let text = String::from_utf8(text).map_err(|_| bad("is not UTF-8".to_owned()))?;
    let labels: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    if labels.is_empty() {
        return Err(bad("names no class".to_owned()));
    }
    Ok(labels)
}

fn failed(text: &str) -> RuntimeError {
    RuntimeError::Inference(format!("the model does not classify: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes(top_k: usize, softmax: bool, format: ClassFormat, labels: &[&str]) -> Classes {
        let settings = Classification { top_k, labels: None, format, softmax };
        Classes { settings, labels: labels.iter().map(|it| (*it).to_owned()).collect() }
    }

    fn output(shape: &[i64], values: &[f32]) -> TensorData {
        TensorData { shape: shape.to_vec(), elements: Elements::Float32(values.to_vec()) }
    }

    fn text(answer: Result<Vec<u8>, RuntimeError>) -> String {
        String::from_utf8(answer.expect("it classifies")).expect("JSON is UTF-8")
    }

    #[test]
    fn answers_are_strings_as_in_the_aws_example() {
        let classes = classes(2, false, ClassFormat::Strings, &["dog", "Egyptian cat", "\"lynx\""]);
        assert_eq!(
            text(classes.answer(&output(&[1, 3], &[0.1, 0.8117, 0.0883]))),
            r#"["probability=0.811700, class=Egyptian cat","probability=0.100000, class=dog"]"#
        );
        let rows = output(&[2, 3], &[0.1, 0.8, 0.1, 0.0, 0.1, 0.9]);
        assert_eq!(
            text(classes.answer(&rows)),
            r#"[["probability=0.800000, class=Egyptian cat","probability=0.100000, class=dog"],"#
                .to_owned()
                + r#"["probability=0.900000, class=\"lynx\"","probability=0.100000, class=Egyptian cat"]]"#
        );
    }

    #[test]
    fn answers_are_objects_on_request() {
        let classes = classes(9, false, ClassFormat::Objects, &[]);
        assert_eq!(
            text(classes.answer(&output(&[2], &[0.25, 0.75]))),
            r#"[{"probability":0.75,"class":"1"},{"probability":0.25,"class":"0"}]"#
        );
    }

    #[test]
    fn logits_become_probabilities_even_when_they_are_large() {
        let classes = classes(3, true, ClassFormat::Strings, &[]);
        let top = classes.top(&[1000.0, 1001.0, 1002.0]).unwrap();
        let expected = [(2, 0.665_241), (1, 0.244_728), (0, 0.090_031)];
        for ((idx, probability), (expected_idx, expected)) in top.iter().zip(expected) {
            assert_eq!(*idx, expected_idx);
            assert!((probability - expected).abs() < 1e-5, "{top:?}");
        }
    }

    #[test]
    fn outputs_that_are_no_classification_are_refused() {
        let named = classes(5, true, ClassFormat::Strings, &["a", "b"]);
        for (output, expected) in [
            (output(&[1, 1, 2], &[0.0, 0.0]), "its output has the shape [1, 1, 2]"),
            (output(&[], &[0.0]), "its output has the shape []"),
            (output(&[1, 0], &[]), "its output has no classes"),
            (output(&[3], &[0.0; 3]), "it gives 3 classes, its labels file names 2"),
            (output(&[2], &[0.0, f32::NAN]), "its output holds NaN"),
            (output(&[2], &[0.0, f32::INFINITY]), "its output holds inf"),
        ] {
            let why = named.answer(&output).unwrap_err().to_string();
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn labels_are_lines_of_a_file_in_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("labels.txt"), "cat\r\n Egyptian cat \n\n").unwrap();
        let read = |name| read_labels(folder.path(), name);
        assert_eq!(read("labels.txt"), Ok(vec!["cat".to_owned(), "Egyptian cat".to_owned()]));
        std::fs::write(folder.path().join("empty.txt"), "\n").unwrap();
        std::fs::write(folder.path().join("binary.txt"), b"\xff").unwrap();
        for (name, expected) in [
            ("empty.txt", "labels file `empty.txt` names no class"),
            ("binary.txt", "labels file `binary.txt` is not UTF-8"),
            ("missing.txt", "there is no file `missing.txt` in the archive"),
        ] {
            let why = read(name).unwrap_err().to_string();
            assert!(why.contains(expected), "{why}");
        }
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_sort(
            row in proptest::collection::vec(-50.0_f32..50.0, 1..40),
            top_k in 1_usize..50,
        ) {
            let top = classes(top_k, true, ClassFormat::Strings, &[]).top(&row).unwrap();
            prop_assert_eq!(top.len(), top_k.min(row.len()));
            prop_assert!(top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            let worst = top.iter().map(|(idx, _)| row[*idx]).fold(f32::INFINITY, f32::min);
            let chosen: Vec<usize> = top.iter().map(|(idx, _)| *idx).collect();
            let others = row.iter().enumerate().filter(|(idx, _)| !chosen.contains(idx));
            prop_assert!(others.into_iter().all(|(_, value)| *value <= worst));
            let sum: f32 = top.iter().map(|(_, probability)| probability).sum();
            prop_assert!(sum <= 1.0 + 1e-4);
        }
    }
}
