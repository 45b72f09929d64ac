//! What an image model answers, and what the real ones must answer for the cat.

use anyhow::{Context as _, ensure};

/// How far a probability may be from the reference: picture decoders and resizers differ in the last
/// bits, and so do the kernels of different processors.
const TOLERANCE: f64 = 0.01;

/// A class and its probability.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) probability: f64,
}

type Reference = (&'static str, [(&'static str, f64); 4]);

/// The four likeliest classes of the cat's picture, from the models' own implementation in Python,
/// the whole picture resized bilinearly with antialiasing.
const REFERENCES: [Reference; 3] = [
    (
        "efficientnet_lite0.tar.gz",
        [("Egyptian cat", 0.8117), ("tiger cat", 0.0769), ("tabby", 0.0668), ("lynx", 0.0091)],
    ),
    (
        "efficientnet_lite1.tar.gz",
        [("Egyptian cat", 0.7962), ("tabby", 0.0565), ("tiger cat", 0.0502), ("lynx", 0.0104)],
    ),
    (
        "efficientnet_lite2.tar.gz",
        [("Egyptian cat", 0.7413), ("tiger cat", 0.0616), ("tabby", 0.0430), ("lynx", 0.0178)],
    ),
];

/// Reads `["probability=0.811700, class=Egyptian cat", …]`.
pub(super) fn parse(body: &[u8]) -> anyhow::Result<Vec<Class>> {
    let texts: Vec<String> =
        serde_json::from_slice(body).context("the answer is not a JSON array of strings")?;
    let classes: Option<Vec<Class>> = texts.iter().map(|text| parse_one(text)).collect();
    let classes = classes.with_context(|| format!("the answer has no classes: {texts:?}"))?;
    ensure!(!classes.is_empty(), "the answer is empty");
    Ok(classes)
}

fn parse_one(text: &str) -> Option<Class> {
    let (probability, name) = text.strip_prefix("probability=")?.split_once(", class=")?;
    Some(Class { name: name.to_owned(), probability: probability.parse().ok()? })
}

/// Whether there are reference figures for a model.
pub(super) fn is_real(model: &str) -> bool {
    REFERENCES.iter().any(|(name, _)| *name == model)
}

/// Checks a real model's answer for the cat against its reference.
pub(super) fn check(model: &str, classes: &[Class]) -> anyhow::Result<()> {
    let Some((_, reference)) = REFERENCES.iter().find(|(name, _)| *name == model) else {
        return Ok(());
    };
    ensure!(
        classes[0].name == reference[0].0,
        "{model} sees `{}` instead of `{}`",
        classes[0].name,
        reference[0].0
    );
    for (name, expected) in reference {
        let class = classes.iter().find(|class| class.name == *name);
        let probability =
            class.with_context(|| format!("{model} does not see `{name}`"))?.probability;
        ensure!(
            (probability - expected).abs() <= TOLERANCE,
            "{model} sees `{name}` with {probability:.4} instead of {expected:.4}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(first: f64) -> Vec<Class> {
        let body = format!(
            r#"["probability={first:.6}, class=Egyptian cat", "probability=0.076900, class=tiger cat",
                "probability=0.066800, class=tabby", "probability=0.009100, class=lynx",
                "probability=0.001000, class=Cardigan, a dog"]"#
        );
        parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn answers_are_read_as_the_models_write_them() {
        let classes = answer(0.8117);
        assert_eq!(classes.len(), 5);
        assert_eq!(classes[0], Class { name: "Egyptian cat".to_owned(), probability: 0.8117 });
        assert_eq!(classes[4].name, "Cardigan, a dog");
        for bad in ["", "{}", "[]", "[1]", r#"["class=x"]"#, r#"["probability=x, class=y"]"#] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn real_models_must_agree_with_their_reference() {
        assert!(check("efficientnet_lite0.tar.gz", &answer(0.8117)).is_ok());
        assert!(check("efficientnet_lite0.tar.gz", &answer(0.8210)).is_ok());
        assert!(check("efficientnet_lite0.tar.gz", &answer(0.8230)).is_err());
        assert!(check("efficientnet_lite1.tar.gz", &answer(0.7962)).is_err());
        assert!(check("resnet_18.tar.gz", &answer(0.1)).is_ok());
    }
}
