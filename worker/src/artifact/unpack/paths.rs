//! Which paths an archive's entry may have, and what is left out.

use super::{Limits, flaw::EntryFlaw};

/// What Linux file systems allow for one name.
const MAX_NAME_BYTES: usize = 255;

/// Folders that mean something by their name: they are no mere wrapping.
const MEANINGFUL: [&str; 2] = ["code", "MAR-INF"];

/// Returns the path in its plainest form: relative, `/` between names, no `.`; empty for the
/// archive's own top folder.
pub(super) fn safe_path(raw: &[u8], limits: &Limits) -> Result<String, EntryFlaw> {
    if raw.is_empty() {
        return Err(EntryFlaw::Nameless);
    }
    if raw.len() > limits.max_path_bytes {
        return Err(EntryFlaw::PathTooLong(limits.max_path_bytes));
    }
    let path = std::str::from_utf8(raw).map_err(|_| EntryFlaw::NotUtf8)?;
    if path.chars().any(char::is_control) {
        return Err(EntryFlaw::ControlCharacter);
    }
    if path.starts_with('/') {
        return Err(EntryFlaw::Absolute);
    }
    if path.contains('\\') {
        return Err(EntryFlaw::Backslash);
    }
    if matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
        return Err(EntryFlaw::Drive);
    }
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.contains(&"..") {
        return Err(EntryFlaw::Climbs);
    }
    if names.iter().any(|name| name.len() > MAX_NAME_BYTES) {
        return Err(EntryFlaw::NameTooLong);
    }
    if names.len() > limits.max_depth {
        return Err(EntryFlaw::TooDeep(limits.max_depth));
    }
    Ok(names.join("/"))
}

/// Whether a path is what a Mac adds to archives. `._model.pt` would pass for a second model.
pub(super) fn is_mac_litter(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with("._") || matches!(name, ".DS_Store" | "__MACOSX"))
}

/// Returns the one folder that holds all `files`, if packing wrapped them in it.
pub(super) fn wrapping_folder<'a>(mut files: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (folder, _) = files.next()?.split_once('/')?;
    let wraps = files.all(|file| file.split_once('/').is_some_and(|(top, _)| top == folder));
    (wraps && !MEANINGFUL.contains(&folder)).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[track_caller]
    fn check(raw: impl AsRef<[u8]>, expected: Result<&str, EntryFlaw>) {
        let limits = Limits { max_path_bytes: 300, max_depth: 3, ..Limits::DEFAULT };
        assert_eq!(safe_path(raw.as_ref(), &limits), expected.map(str::to_owned));
    }

    #[test]
    fn ordinary_paths_come_out_in_their_plainest_form() {
        check("model.pt", Ok("model.pt"));
        check("./a//b/./c", Ok("a/b/c"));
        check("folder/", Ok("folder"));
        check("./", Ok(""));
        check("modèle d'été", Ok("modèle d'été"));
        check("..a/b..", Ok("..a/b.."));
    }

    #[test]
    fn paths_that_could_leave_their_folder_are_refused() {
        check("", Err(EntryFlaw::Nameless));
        check("/etc/passwd", Err(EntryFlaw::Absolute));
        check("../x", Err(EntryFlaw::Climbs));
        check("a/../../x", Err(EntryFlaw::Climbs));
        check("a/..", Err(EntryFlaw::Climbs));
        check("a\\..\\x", Err(EntryFlaw::Backslash));
        check("C:/x", Err(EntryFlaw::Drive));
        check("c:x", Err(EntryFlaw::Drive));
        check("a\0b", Err(EntryFlaw::ControlCharacter));
        check("a\nb", Err(EntryFlaw::ControlCharacter));
        check(b"a\xff", Err(EntryFlaw::NotUtf8));
    }

    #[test]
    fn bounds_of_paths_are_inclusive() {
        check("a/b/c", Ok("a/b/c"));
        check("a/b/c/d", Err(EntryFlaw::TooDeep(3)));
        check("x".repeat(255), Ok(&"x".repeat(255)));
        check("x".repeat(256), Err(EntryFlaw::NameTooLong));
        let long = format!("{}/{}", "x".repeat(149), "y".repeat(150));
        check(&long, Ok(&long));
        check(format!("{long}z"), Err(EntryFlaw::PathTooLong(300)));
    }

    #[test]
    fn one_folder_around_everything_is_seen_as_wrapping() {
        let wrapping = |files: &[&'static str]| wrapping_folder(files.iter().copied());
        assert_eq!(wrapping(&["model/model.pt", "model/labels.txt"]), Some("model"));
        assert_eq!(wrapping(&["model/a/x", "model/b/y"]), Some("model"));
        assert_eq!(wrapping(&["model/model.pt", "labels.txt"]), None);
        assert_eq!(wrapping(&["model.pt"]), None);
        assert_eq!(wrapping(&["code/inference.py"]), None);
        assert_eq!(wrapping(&["MAR-INF/MANIFEST.json"]), None);
        assert_eq!(wrapping(&[]), None);
    }

    #[test]
    fn what_a_mac_adds_is_known() {
        for litter in ["._model.pt", "a/.DS_Store", "__MACOSX/a", "a/._b/c"] {
            assert!(is_mac_litter(litter), "{litter}");
        }
        assert!(!is_mac_litter("a.b/_c/.d"));
    }

    proptest! {
        #[test]
        fn a_safe_path_joins_below_any_folder(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = safe_path(&raw, &Limits::DEFAULT) {
                let joined = Path::new("/cache/x").join(&path);
                prop_assert!(joined.starts_with("/cache/x"));
                prop_assert!(joined.components().skip(1).all(|it| matches!(it, Component::Normal(_))));
            }
        }
    }
}
