//! Requests to the control plane that strangers write: parsed, validated and decided on a catalog.
//!
//! An input is the operation on the first line, and then the body.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|it| *it == b'\n').unwrap_or(input.len());
    let body = input.get(end + 1..).unwrap_or_default();
    router::control::fuzzing::judge(&input[..end], body);
});
