//! Rules about the code that reviewers would forget: layers, who may name what, sizes, layout.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a reader keeps in the head. Aim for half of it.
const MAX_FILE_LINES: usize = 400;

const CRATES: [&str; 4] = ["shared", "router", "worker", "driver"];

/// Where a crate may have Rust: its code, the zoo's, and what uses it.
const FOLDERS: [&str; 5] = ["src", "zoo", "tests", "examples", "benches"];

/// A crate, and what it must never depend on. See ARCHITECTURE.md, "Layers".
const FORBIDDEN: [(&str, &[&str]); 4] = [
    (
        "shared",
        &[
            "router",
            "worker",
            "driver",
            "actix",
            "actix-web",
            "awc",
            "ractor",
            "tch",
            "aws-sdk-s3",
            "reqwest",
            "hyper",
        ],
    ),
    ("router", &["worker", "driver", "ractor", "tch", "reqwest"]),
    ("worker", &["router", "driver", "actix", "consistent_hash_ring"]),
    ("driver", &["router", "worker", "actix", "actix-web", "ractor", "tch"]),
];

/// A library, and the only files or folders that may name it.
const OWNERS: [(&str, &[&str]); 9] = [
    ("actix", &["router/src/actors"]),
    ("ractor", &["worker/src/actors"]),
    ("tch", &["worker/src/runtime/torch", "worker/zoo"]),
    ("aws_sdk_s3", &["worker/src/artifact/s3", "router/src/objects", "driver/src/models"]),
    ("etcd_client", &["shared/src/etcd"]),
    ("bollard", &["driver/src/container/engine"]),
    ("sysinfo", &["worker/src/memory", "driver/src/machine"]),
    ("consistent_hash_ring", &["router/src/policy/ring"]),
    ("s3s_fs", &["driver/src/store"]),
];

/// What decisions may import: they get values and give values.
const POLICY_IMPORTS: [&str; 11] = [
    "std",
    "core",
    "shared",
    "super",
    "crate",
    "self",
    "tokio",
    "proptest",
    "consistent_hash_ring",
    "rand",
    "xxhash_rust",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root")
}

/// Returns every Rust file below a folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Returns every source file of the crates, by its path from the root, with its text.
fn sources() -> Vec<(String, String)> {
    let folders =
        CRATES.iter().flat_map(|name| FOLDERS.map(|folder| root().join(name).join(folder)));
    let files = folders.flat_map(|folder| rust_files(&folder));
    let sources: Vec<_> = files
        .map(|path| {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            (name, fs::read_to_string(&path).expect("a source is text"))
        })
        .collect();
    assert!(sources.len() > CRATES.len(), "the sources are where they should be");
    sources
}

/// The part of a file that is not its inline tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// Whether a line of code names a crate: `use tch::…`, `tch::Tensor`, not `torch_sys` or a comment.
fn names(line: &str, library: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let path = format!("{library}::");
    code.match_indices(&path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':')
    })
}

/// Whether a file is nothing but tests: `foo/tests.rs`, or below `foo/tests/`.
fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

fn is_within(file: &str, owner: &str) -> bool {
    let rest = file.strip_prefix(owner);
    rest.is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

#[test]
fn crates_keep_to_their_layer() {
    for (name, forbidden) in FORBIDDEN {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
        for dependency in forbidden {
            let used = dependencies
                .lines()
                .any(|line| line.split(['.', ' ', '=']).next() == Some(*dependency));
            assert!(!used, "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn libraries_are_named_by_their_owners_alone() {
    for (file, text) in sources() {
        if is_test(&file) {
            continue;
        }
        for (library, owners) in OWNERS {
            let is_owner = owners.iter().any(|owner| is_within(&file, owner));
            let mut lines = without_tests(&text).lines();
            if let Some(line) = lines.find(|line| !is_owner && names(line, library)) {
                panic!("{file} must not name {library}: {}", line.trim());
            }
        }
    }
}

#[test]
fn owners_are_there_and_use_what_they_own() {
    let sources = sources();
    for (library, owners) in OWNERS {
        for owner in owners {
            let mut lines = sources
                .iter()
                .filter(|(file, _)| is_within(file, owner))
                .flat_map(|(_, text)| text.lines());
            assert!(lines.any(|line| names(line, library)), "{owner} does not name {library}");
        }
    }
}

#[test]
fn decisions_import_values_alone() {
    for (file, text) in sources() {
        if !file.contains("/src/policy") || is_test(&file) {
            continue;
        }
        for line in text.lines().filter_map(|line| line.strip_prefix("use ")) {
            let import = line.split([':', ';', ' ']).next().unwrap_or_default();
            assert!(POLICY_IMPORTS.contains(&import), "{file} must not import {import}");
        }
        for line in without_tests(&text).lines() {
            let is_clock = line.contains("Instant::now()") || line.contains("SystemTime::now()");
            assert!(!is_clock, "{file} must be given the time: {}", line.trim());
        }
    }
}

#[test]
fn files_fit_in_a_reader_s_head() {
    for (file, text) in sources() {
        let n_lines = without_tests(&text).lines().count();
        assert!(n_lines <= MAX_FILE_LINES, "{file}: {n_lines} lines");
    }
}

#[test]
fn files_say_what_they_decide_or_own() {
    let tests = rust_files(&root().join("tests"));
    let tests = tests.iter().map(|path| {
        (path.display().to_string(), fs::read_to_string(path).expect("a source is text"))
    });
    for (file, text) in sources().into_iter().chain(tests) {
        // A file of tests is told by the file that it tests.
        if !file.ends_with("/tests.rs") {
            assert!(text.starts_with("//! "), "{file} does not begin with what it is about");
        }
    }
}

#[test]
fn files_are_named_for_what_they_own() {
    const REFUSED: [&str; 8] =
        ["mod", "utils", "util", "common", "helpers", "types", "misc", "manager"];
    for (file, _) in sources() {
        let stem = Path::new(&file).file_stem().and_then(|stem| stem.to_str());
        assert!(!REFUSED.iter().any(|name| Some(*name) == stem), "{file}: name what it owns");
    }
}

#[test]
fn names_are_told_from_parts_of_names() {
    assert!(names("use tch::Tensor;", "tch"));
    assert!(names("    let x: tch::Tensor = y;", "tch"));
    assert!(!names("use batch::Tensor;", "tch"));
    assert!(!names("// tch::Tensor", "tch"));
    assert!(!names("use actix_web::web;", "actix"));
    assert!(is_within("a/src/b.rs", "a/src/b") && is_within("a/src/b/c.rs", "a/src/b"));
    assert!(!is_within("a/src/bc.rs", "a/src/b"));
}
