use super::*;
use actix_web::http::header::{HeaderName, HeaderValue};

#[track_caller]
fn check(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
    let mut out = Vec::new();
    write(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[test]
fn paths_are_normalized_and_encoded_once_more() {
    for (path, expected) in [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        ("/endpoints/demo/invocations", "/endpoints/demo/invocations"),
        ("/endpoints/a%2Fb%20c_%3F/invocations", "/endpoints/a%252Fb%2520c_%253F/invocations"),
        ("//a/./b/../c//", "/a/c/"),
        ("/..", "/"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a~b-c.d_e:f", "/a~b-c.d_e%3Af"),
    ] {
        check(|out| push_normal_path(path, out), expected);
    }
}

#[test]
fn s3_takes_the_path_as_it_stands() {
    for (path, expected) in [
        ("/bucket//a/./../b%20c", "/bucket//a/./../b%20c"),
        ("/bucket/a:b+c", "/bucket/a%3Ab%2Bc"),
        ("/bucket/50%", "/bucket/50%25"),
        ("/bucket/%2f%2F%zz", "/bucket/%2f%2F%25zz"),
        ("/bucket/é", "/bucket/%C3%A9"),
    ] {
        check(|out| push_encoded(path, b"/", out), expected);
    }
}

#[test]
fn queries_are_sorted_by_their_encoded_names() {
    for (query, expected) in [
        ("", ""),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1", "a=1&a=2"),
        ("acl", "acl="),
        ("prefix=a/b&list-type=2", "list-type=2&prefix=a%2Fb"),
        ("a=b=c", "a=b%3Dc"),
        ("a-b=1&a=1&A=1", "A=1&a=1&a-b=1"),
        ("x=%7E~", "x=%7E~"),
    ] {
        check(|out| push_query(query, out).unwrap(), expected);
    }
    let long = vec!["a"; MAX_PARAMETERS + 1].join("&");
    assert_eq!(push_query(&long, &mut Vec::new()), Err(Flaw::Query(MAX_PARAMETERS)));
}

#[test]
fn values_lose_their_outer_and_double_blanks() {
    for (value, expected) in [("", ""), ("  a   b ", "a b"), ("a\tb", "a\tb"), ("é", "é")] {
        check(|out| push_trimmed(value.as_bytes(), out), expected);
    }
}

#[test]
fn a_request_is_written_line_by_line() {
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-b", "2"), ("x-b", " 3  4"), ("x-a", "1"), ("other", "0")] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let head =
        Head { method: "POST", path: "/p", query: "q", authority: Some("h:1"), headers: &headers };
    let header = |names| {
        format!(
            "AWS4-HMAC-SHA256 Credential=AK/20261123/r/s/aws4_request,SignedHeaders={names},\
             Signature={}",
            "0".repeat(64)
        )
    };
    let of = |names| {
        let header = header(names);
        let authorization = Authorization::parse(&header).unwrap();
        let request = request(&head, &authorization, Api::Runtime).unwrap();
        request.map(|it| String::from_utf8(it).unwrap())
    };
    let expected = "POST\n/p\nq=\nhost:h:1\nx-a:1\nx-b:2,3 4\n\nhost;x-a;x-b\n";
    assert_eq!(of("host;x-a;x-b").as_deref(), Some(expected));
    assert_eq!(of("host;x-c"), None);
}
