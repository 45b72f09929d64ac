use super::{
    claim::tests::{FOREVER, Request, invocation, keyring, now, signed},
    *,
};

fn admitted(gate: &Gate, request: &Request) -> Result<Visitor, AuthError> {
    request.read(|head| gate.admit_at(head, request.api, now())).expect("a request")
}

fn model(name: &str) -> TargetModel {
    name.parse().unwrap()
}

#[test]
fn everybody_passes_an_open_gate() {
    let visitor = admitted(&Gate::open(), &invocation()).unwrap();
    assert!(visitor.is_anybody());
    let caller = visitor.identify(b"anything").unwrap();
    assert_eq!((caller.arn(), caller.access_key_id(), caller.scope()), (None, None, None));
    let never = || -> String { unreachable!("nobody is told") };
    caller.may("sagemaker:InvokeEndpoint", Some(&model("m")), never).unwrap();
}

#[test]
fn a_caller_is_who_signed() {
    let gate = Gate::with(keyring());
    let request = signed(invocation(), FOREVER, now());
    let caller = admitted(&gate, &request).unwrap().identify(&request.body).unwrap();
    assert_eq!((caller.arn(), caller.access_key_id()), (Some("arn"), Some("AKIA")));
    assert_eq!(caller.scope().unwrap().region, "us-east-1");
    let error = admitted(&gate, &request).unwrap().identify(b"other").unwrap_err();
    assert_eq!(error.code(), "InvalidSignatureException");
}

#[test]
fn new_keys_count_for_every_clone_of_a_gate() {
    let gate = Gate::with(Keyring::default());
    let clone = gate.clone();
    let request = signed(invocation(), FOREVER, now());
    assert_eq!(admitted(&gate, &request).unwrap_err().fault, Fault::UnknownKey);
    clone.replace(keyring());
    assert!(admitted(&gate, &request).is_ok());
    assert!(!gate.is_open());
}

#[test]
fn a_body_of_s3_is_checked_as_it_streams_by() {
    let gate = Gate::with(keyring());
    let mut request = invocation();
    request.api = Api::S3;
    let request = signed(request, FOREVER, now());
    let (caller, check) = admitted(&gate, &request).unwrap().identify_head().unwrap();
    assert_eq!(caller.access_key_id(), Some("AKIA"));
    let finish = |chunks: [&[u8]; 2]| {
        let mut check = check.clone();
        for chunk in chunks {
            check.update(chunk);
        }
        check.finish()
    };
    finish([b"{", b"}"]).unwrap();
    assert_eq!(finish([b"{", b" }"]).unwrap_err().code(), "XAmzContentSHA256Mismatch");
}

/// Nothing of their bodies is signed in their heads.
#[test]
fn invocations_are_not_identified_by_their_heads() {
    let gate = Gate::with(keyring());
    let request = signed(invocation(), FOREVER, now());
    let error = admitted(&gate, &request).unwrap().identify_head().unwrap_err();
    assert_eq!(error.code(), "IncompleteSignatureException");
}
