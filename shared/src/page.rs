//! Tells what a browser sends on behalf of a page from what a program sends.
//!
//! None of the pages is ours. A stranger's could otherwise use what is open to this machine alone, in
//! the name of whoever looks at it.

use std::net::IpAddr;

/// Where a browser says whether a page made it send a request, and whose.
pub const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether a browser sends a request on behalf of a page; no SDK does. `has_origin`: whether there is an
/// `Origin`, whatever it says; `site`: the value of [`SEC_FETCH_SITE`].
pub fn is_sender(has_origin: bool, site: Option<&[u8]>) -> bool {
    has_origin || site.is_some_and(|site| site != b"none")
}

/// Whether the value of `Host` names this machine, wherever it is asked. The address behind any other
/// name is its owner's to choose: it may be ours.
pub fn names_this_machine(host: Option<&[u8]>) -> bool {
    // Without a name there is none that lies.
    let Some(host) = host else { return true };
    let Ok(host) = str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok() || is_localhost(name)
}

fn is_localhost(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_sends_is_told_from_what_a_program_sends() {
        assert!(is_sender(true, None));
        assert!(is_sender(true, Some(b"none")));
        assert!(is_sender(false, Some(b"cross-site")));
        assert!(!is_sender(false, Some(b"none")));
        assert!(!is_sender(false, None));
    }

    #[test]
    fn only_addresses_and_localhost_name_this_machine() {
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "LOCALHOST:1",
            "b.localhost:1",
            "[::1]:80",
            "[::1]",
            "10.0.0.1",
        ] {
            assert!(names_this_machine(Some(host.as_bytes())), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "",
            "caf\u{e9}",
        ] {
            assert!(!names_this_machine(Some(host.as_bytes())), "{host}");
        }
        assert!(!names_this_machine(Some(b"\xff")));
        assert!(names_this_machine(None));
    }
}
