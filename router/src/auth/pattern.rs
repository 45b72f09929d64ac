//! Patterns of actions and target models, as IAM's `StringLike` takes them.

use serde::Deserialize;

/// Text in which `*` stands for any characters, also none, and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Case counts, as in `StringLike`.
    pub fn matches(&self, text: &str) -> bool {
        matches(&self.0, text, |wanted, found| wanted == found)
    }

    /// Case does not count, as in the names of actions.
    pub fn matches_action(&self, action: &str) -> bool {
        matches(&self.0, action, |wanted, found| wanted.eq_ignore_ascii_case(&found))
    }
}

/// Goes back to the last star alone, so that no pattern takes more than the product of the lengths.
fn matches(pattern: &str, text: &str, is_same: impl Fn(char, char) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // What follows the last star, and the text that it has not yet taken.
    let mut star = None;
    loop {
        let untaken = text.clone();
        match (pattern.next(), text.next()) {
            (Some('*'), _) => {
                text = untaken;
                star = Some((pattern.clone(), text.clone()));
            }
            (Some(wanted), Some(found)) if wanted == '?' || is_same(wanted, found) => {}
            (None, None) => return true,
            _ => {
                // The last star takes one more character.
                let Some((after_star, untaken)) = &mut star else {
                    return false;
                };
                if untaken.next().is_none() {
                    return false;
                }
                (pattern, text) = (after_star.clone(), untaken.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
    }

    #[test]
    fn stars_and_question_marks() {
        for text in ["", "a", "a/b.tar.gz", "é"] {
            check("*", text, true);
            check("**", text, true);
        }
        check("", "", true);
        check("", "a", false);
        check("team-a/*", "team-a/x/y", true);
        check("team-a/*", "team-b/x", false);
        check("team-a/*", "team-a", false);
        check("*.tar.gz", "x.tar.gz", true);
        check("*.tar.gz", "x.tar.gz.zip", false);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c-b", false);
        check("resnet_?", "resnet_é", true);
        check("resnet_?", "resnet_", false);
        check("Resnet", "resnet", false);
    }

    #[test]
    fn the_case_of_an_action_does_not_count() {
        let pattern = Pattern::new("SageMaker:invoke*");
        assert!(pattern.matches_action("sagemaker:InvokeEndpoint"));
        assert!(!pattern.matches_action("sagemaker:CreateModel"));
    }

    #[test]
    fn many_stars_take_no_time() {
        check(&"*a".repeat(500), &"a".repeat(499), false);
    }

    /// The definition, read literally.
    fn plainly(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => plainly(rest, text),
            (Some(('*', rest)), Some((_, later))) => plainly(rest, text) || plainly(pattern, later),
            (Some((wanted, rest)), Some((found, later))) => {
                (*wanted == '?' || wanted == found) && plainly(rest, later)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = plainly(&chars(&pattern), &chars(&text));
            prop_assert_eq!(Pattern(pattern).matches(&text), expected);
        }
    }
}
