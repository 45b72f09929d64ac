use super::*;
use proptest::prelude::*;

fn with(pairs: &[(&str, &[u8])]) -> Result<Asked, InvalidRequest> {
    let mut request = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::try_from(*name).unwrap();
        request.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    parse(&request)
}

/// Checks one header beside a valid target model; `None` is valid.
#[track_caller]
fn check(header: &str, value: &str, expected: Option<&str>) {
    let asked = with(&[(wire::TARGET_MODEL, b"a.tar.gz"), (header, value.as_bytes())]);
    let error = asked.err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), expected, "{header}: {value}");
}

#[track_caller]
fn check_target_model(value: &[u8], expected: Option<&str>) {
    let error = with(&[(wire::TARGET_MODEL, value)]).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), expected);
}

#[test]
fn target_models_follow_sagemakers_constraint_and_stay_below_their_prefix() {
    check_target_model(b"tenant_a/v3/model.tar.gz", None);
    check_target_model("modèle d'été.tar.gz".as_bytes(), None);
    check_target_model("é".repeat(1024).as_bytes(), None);
    check_target_model(
        b"../x",
        Some(
            "1 validation error detected: invalid target model `../x`: \
             it must not climb with `..`",
        ),
    );
    check_target_model(
        b"/x",
        Some(
            "1 validation error detected: invalid target model `/x`: \
             it must be relative to the endpoint's prefix",
        ),
    );
    check_target_model(
        b"",
        Some(
            "1 validation error detected: Value '' at 'targetModel' failed to satisfy constraint: \
             Member must have length greater than or equal to 1",
        ),
    );
    check_target_model(
        b"caf\xe9",
        Some(
            "1 validation error detected: Value at 'targetModel' failed to satisfy constraint: \
             Member must be valid UTF-8",
        ),
    );
    let long = "x".repeat(1025);
    let error = with(&[(wire::TARGET_MODEL, long.as_bytes())]).unwrap_err().to_string();
    let text = "at 'targetModel' failed to satisfy constraint: Member must have length less than \
                or equal to 1024";
    assert!(error.ends_with(text), "{error}");
}

#[test]
fn a_missing_target_model_is_told_from_a_bad_one() {
    assert_eq!(with(&[]).unwrap().target_model, None);
    assert!(with(&[(wire::TARGET_MODEL, b"../x")]).is_err());
}

#[test]
fn every_header_has_its_constraint() {
    let pattern = "1 validation error detected: Value '-' at 'inferenceComponentName' failed to \
                   satisfy constraint: Member must satisfy regular expression pattern: \
                   ^[a-zA-Z0-9](-*[a-zA-Z0-9])*";
    check(wire::INFERENCE_COMPONENT, "-", Some(pattern));
    check(wire::INFERENCE_COMPONENT, "a--b", None);
    check(wire::SESSION_ID, "NEW_SESSION", None);
    check(wire::SESSION_ID, "a1-b2", None);
    assert!(with(&[(wire::TARGET_MODEL, b"a"), (wire::SESSION_ID, b"a_b")]).is_err());
    check(wire::INFERENCE_ID, "any printable, ü too", None);
    assert!(with(&[(wire::TARGET_MODEL, b"a"), (wire::INFERENCE_ID, b"")]).is_err());
    assert!(with(&[(wire::TARGET_MODEL, b"a"), (wire::CUSTOM_ATTRIBUTES, b"\xc3\xa9")]).is_err());
    let variant = "1 validation error detected: Value 'a_b' at 'targetVariant' failed to satisfy \
                   constraint: Member must satisfy regular expression pattern: \
                   ^[a-zA-Z0-9](-*[a-zA-Z0-9])*";
    check(wire::TARGET_VARIANT, "a_b", Some(variant));

    for rule in &RULES {
        let fits = "x".repeat(rule.max_chars);
        check(rule.header, &fits, None);
        let asked =
            with(&[(wire::TARGET_MODEL, b"a"), (rule.header, format!("{fits}x").as_bytes())]);
        let error = asked.unwrap_err().to_string();
        assert!(error.contains(&format!("at '{}' failed", rule.member)), "{error}");
        assert!(error.ends_with(&rule.max_chars.to_string()), "{error}");
    }
}

#[test]
fn a_header_that_comes_twice_is_forwarded_once_as_it_came_last() {
    let asked = with(&[
        (wire::TARGET_MODEL, b"a"),
        ("accept", b"text/csv"),
        ("content-type", b"image/png"),
        ("accept", b"application/json"),
    ]);
    let forwarded = asked.unwrap().forwarded;
    let accepted = forwarded.iter().filter(|(name, _)| name == "accept");
    assert_eq!(accepted.map(|(_, value)| value).collect::<Vec<_>>(), ["application/json"]);
    assert_eq!(forwarded.len(), 3);
}

#[test]
fn only_what_sagemaker_forwards_is_forwarded() {
    let asked = with(&[
        (wire::TARGET_MODEL, b"a.tar.gz"),
        (wire::TARGET_VARIANT, b"blue"),
        ("content-type", b"text/csv"),
        ("accept", b"application/json"),
        (wire::CUSTOM_ATTRIBUTES, b"c=1"),
        (wire::INFERENCE_ID, b"i"),
        (wire::SESSION_ID, b"NEW_SESSION"),
        (wire::PREFIX_AWARE_ID, b"p"),
        (wire::INFERENCE_COMPONENT, b"component"),
        ("authorization", b"AWS4-HMAC-SHA256 secret"),
        ("x-amz-security-token", b"secret"),
        ("connection", b"keep-alive"),
        ("x-manifold-artifact", b"s3://other/model"),
        ("cookie", b"c"),
    ])
    .unwrap();
    let mut names: Vec<&str> = asked.forwarded.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "content-type",
        wire::CUSTOM_ATTRIBUTES,
        wire::INFERENCE_ID,
        wire::SESSION_ID,
        wire::TARGET_MODEL,
        wire::TARGET_VARIANT,
    ];
    assert_eq!(names, expected);
    assert_eq!(asked.target_variant.unwrap().as_str(), "blue");
}

#[test]
fn endpoint_names_may_be_percent_encoded() {
    assert_eq!(endpoint_name("%64emo").unwrap().as_str(), "demo");
    let error = endpoint_name("a%2Fb%20c_%3F").unwrap_err().to_string();
    let text = "1 validation error detected: Value 'a/b c_?' at 'endpointName' failed to satisfy \
                constraint: Member must satisfy regular expression pattern: \
                ^[a-zA-Z0-9](-*[a-zA-Z0-9])*";
    assert_eq!(error, text);
    let error = endpoint_name(&"x".repeat(64)).unwrap_err().to_string();
    assert!(error.ends_with("Member must have length less than or equal to 63"), "{error}");
    assert!(endpoint_name("").is_err());
    assert!(endpoint_name("%ff").is_err());
}

proptest! {
    #[test]
    fn no_header_value_makes_it_panic(
        name in proptest::sample::select(RULES.map(|rule| rule.header).to_vec()),
        value in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        if HeaderValue::from_bytes(&value).is_ok() {
            let _ = with(&[(wire::TARGET_MODEL, b"a"), (name, &value)]);
        }
    }
}
