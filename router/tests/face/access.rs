//! Who comes in: signatures, what keys may do, and which listener takes what.

use crate::{
    instance::{Act, Instance, ok},
    router::{Response, Router, eventually},
    signing::Signer,
};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

const INVOKE: &str = "POST /endpoints/demo/invocations";
const MODEL: &str = "x-amzn-sagemaker-target-model: m.tar.gz\r\n";

const CREDENTIALS: &str = r#"
[[credential]]
access_key_id = "AKIA"
secret_access_key = "hush"

[[credential]]
access_key_id = "ASIA"
secret_access_key = "hush"
session_token = "token"

[[credential]]
access_key_id = "OLD"
secret_access_key = "hush"
session_token = "token"
expires = 2020-01-01T00:00:00Z

[[credential]]
access_key_id = "TEAM"
secret_access_key = "hush"
user = "team-a"
actions = ["sagemaker:InvokeEndpoint"]
target_models = ["team-a/*"]
"#;

/// Writes a file that its owner alone can read, all at once.
fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("writable");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("writable");
    fs::rename(draft, path).expect("writable");
}

/// A router with credentials, and an instance that answers.
struct Guarded {
    router: Router,
    instance: Instance,
    folder: tempfile::TempDir,
}

impl Guarded {
    async fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("credentials.toml");
        write(&path, CREDENTIALS);
        let instance = Instance::answering("a", Act::Send(ok("", "served"))).await;
        let flags = [&["--credentials", path.to_str().expect("UTF-8")], flags].concat();
        let router = Router::with(&flags, &[&instance]).await;
        Self { router, instance, folder }
    }

    async fn invoke(&self, signer: Signer) -> Response {
        let headers = signer.sign(INVOKE, MODEL, b"body");
        self.router.send(INVOKE, &headers, b"body").await
    }

    /// Checks that a request is refused and goes nowhere.
    #[track_caller]
    fn check(&self, answer: &Response, (status, code, text): (u16, &str, &str)) {
        answer.check_error(status, code, text);
        assert!(self.instance.received().is_empty());
    }
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you \
    provided. Check your AWS Secret Access Key and signing method. Consult the service \
    documentation for details.";
const UNKNOWN: &str = "The security token included in the request is invalid.";

#[actix_web::test]
async fn a_signed_invocation_is_served_and_its_signature_goes_no_further() {
    let guarded = Guarded::start(&[]).await;
    let token = Some("token");
    for signer in [Signer::of("AKIA", "hush"), Signer { token, ..Signer::of("ASIA", "hush") }] {
        let answer = guarded.invoke(signer).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "served"));
    }
    for received in guarded.instance.received() {
        for header in ["authorization", "x-amz-security-token", "x-amz-date"] {
            assert_eq!(received.header(header), None);
        }
    }
}

#[actix_web::test]
async fn each_failure_has_the_name_that_clients_know() {
    let guarded = Guarded::start(&[]).await;
    let missing = (403, "MissingAuthenticationTokenException", "Missing Authentication Token");
    guarded.check(&guarded.router.send(INVOKE, MODEL, b"body").await, missing);

    let basic = format!("{MODEL}authorization: Basic YTpi\r\n");
    let algorithm = "Unsupported AWS 'algorithm': only 'AWS4-HMAC-SHA256' is supported.";
    let incomplete = (400, "IncompleteSignatureException", algorithm);
    guarded.check(&guarded.router.send(INVOKE, &basic, b"body").await, incomplete);

    let mismatch = (403, "InvalidSignatureException", MISMATCH);
    guarded.check(&guarded.invoke(Signer::of("AKIA", "other")).await, mismatch);
    let unknown = (403, "UnrecognizedClientException", UNKNOWN);
    guarded.check(&guarded.invoke(Signer::of("NOBODY", "hush")).await, unknown);
    guarded.check(&guarded.invoke(Signer::of("ASIA", "hush")).await, unknown);

    let old = Signer { token: Some("token"), ..Signer::of("OLD", "hush") };
    let text = "The security token included in the request is expired";
    guarded.check(&guarded.invoke(old).await, (403, "ExpiredTokenException", text));

    let elsewhere = Signer { service: "s3", ..Signer::of("AKIA", "hush") };
    let text = "Credential should be scoped to correct service: 'sagemaker'.";
    guarded.check(&guarded.invoke(elsewhere).await, (403, "InvalidSignatureException", text));

    let presigned = format!("{INVOKE}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00");
    let text = "Presigned requests are not supported.";
    let answer = guarded.router.send(&presigned, MODEL, b"body").await;
    guarded.check(&answer, (403, "AccessDeniedException", text));
}

#[actix_web::test]
async fn an_old_signature_is_refused_with_both_dates() {
    let guarded = Guarded::start(&[]).await;
    let age = Duration::from_secs(400);
    let answer = guarded.invoke(Signer { age, ..Signer::of("AKIA", "hush") }).await;
    assert_eq!(answer.header("x-amzn-errortype"), Some("InvalidSignatureException"));
    let message = answer.json()["Message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Signature expired: "), "{message}");
    assert!(message.contains(" is now earlier than ") && message.ends_with(" - 5 min.)"));
    assert!(guarded.instance.received().is_empty());
}

#[actix_web::test]
async fn a_replay_with_anything_changed_is_refused() {
    let guarded = Guarded::start(&[]).await;
    let headers = Signer::of("AKIA", "hush").sign(INVOKE, MODEL, b"body");
    let mismatch = (403, "InvalidSignatureException", MISMATCH);
    guarded.check(&guarded.router.send(INVOKE, &headers, b"bodY").await, mismatch);
    let other = headers.replace("m.tar.gz", "n.tar.gz");
    guarded.check(&guarded.router.send(INVOKE, &other, b"body").await, mismatch);
    let other = "POST /endpoints/once/invocations";
    guarded.check(&guarded.router.send(other, &headers, b"body").await, mismatch);
    let added = format!("{headers}x-amzn-sagemaker-target-variant: blue\r\n");
    let text = "'x-amzn-sagemaker-target-variant' must be a 'SignedHeader' in the AWS \
                Authorization.";
    let uncovered = (403, "InvalidSignatureException", text);
    guarded.check(&guarded.router.send(INVOKE, &added, b"body").await, uncovered);
    assert_eq!(guarded.router.send(INVOKE, &headers, b"body").await.status, 200);
}

/// It is hashed beside the HTTP threads.
#[actix_web::test]
async fn a_large_body_is_verified_too() {
    let guarded = Guarded::start(&[]).await;
    let mut body = vec![7; 1024 * 1024];
    let headers = Signer::of("AKIA", "hush").sign(INVOKE, MODEL, &body);
    assert_eq!(guarded.router.send(INVOKE, &headers, &body).await.status, 200);
    body[1024 * 1024 - 1] = 8;
    let answer = guarded.router.send(INVOKE, &headers, &body).await;
    answer.check_error(403, "InvalidSignatureException", MISMATCH);
    assert_eq!(guarded.instance.received().len(), 1);
}

#[actix_web::test]
async fn a_stranger_does_not_learn_which_endpoints_there_are() {
    let guarded = Guarded::start(&[]).await;
    let nowhere = "POST /endpoints/nowhere/invocations";
    let headers = Signer::of("AKIA", "other").sign(nowhere, MODEL, b"");
    let answer = guarded.router.send(nowhere, &headers, b"").await;
    answer.check_error(403, "InvalidSignatureException", MISMATCH);
    let headers = Signer::of("AKIA", "hush").sign(nowhere, MODEL, b"");
    let text = "Endpoint nowhere of account 123456789012 not found.";
    guarded.router.send(nowhere, &headers, b"").await.check_error(400, "ValidationError", text);
}

#[actix_web::test]
async fn a_key_invokes_the_target_models_of_its_policy_alone() {
    let guarded = Guarded::start(&[]).await;
    let signer = Signer::of("TEAM", "hush");
    let denied = "User: arn:aws:iam::123456789012:user/team-a is not authorized to perform: \
                  sagemaker:InvokeEndpoint on resource: \
                  arn:aws:sagemaker:eu-west-1:123456789012:endpoint/demo because no \
                  identity-based policy allows the sagemaker:InvokeEndpoint action";
    guarded.check(&guarded.invoke(signer).await, (403, "AccessDeniedException", denied));
    let headers = signer.sign(INVOKE, "x-amzn-sagemaker-target-model: team-a/m\r\n", b"");
    assert_eq!(guarded.router.send(INVOKE, &headers, b"").await.status, 200);
}

#[actix_web::test]
async fn changed_credentials_count_and_broken_ones_do_not() {
    let guarded = Guarded::start(&[]).await;
    let path = guarded.folder.path().join("credentials.toml");
    let is_served = async |id, secret| guarded.invoke(Signer::of(id, secret)).await.status == 200;
    write(&path, &CREDENTIALS.replace("AKIA", "NEW"));
    eventually(async || is_served("NEW", "hush").await).await;
    assert!(!is_served("AKIA", "hush").await);
    write(&path, "[[credential]]\naccess_key_id = 1");
    write(&path, &CREDENTIALS.replace("hush", "hush-hush"));
    eventually(async || is_served("AKIA", "hush-hush").await).await;
    assert!(!is_served("NEW", "hush").await);
}

#[actix_web::test]
async fn with_credentials_health_stays_open() {
    let guarded = Guarded::start(&[]).await;
    assert_eq!(guarded.router.send("GET /ping", "", b"").await.status, 200);
    assert_eq!(guarded.router.send("GET /metrics", "", b"").await.status, 200);
}

/// A proxy on this machine would else let everybody register instances.
#[actix_web::test]
async fn what_is_for_workers_is_refused_to_those_behind_a_proxy() {
    let guarded = Guarded::start(&[]).await;
    assert_eq!(guarded.router.n_in_service().await, 1);
    for header in ["x-forwarded-for: 10.0.0.1\r\n", "forwarded: for=10.0.0.1\r\n"] {
        let answer = guarded.router.send("GET /manifold/v1/instances", header, b"").await;
        assert_eq!(answer.header("x-amzn-errortype"), Some("AccessDeniedException"));
        assert_eq!(answer.status, 403);
    }
}

#[actix_web::test]
async fn an_internal_listener_takes_what_is_for_workers_and_nothing_else() {
    let router = Router::start(&["--internal-listen", "127.0.0.1:0"]).await;
    let internal = Router::of_process(router.internal_address.unwrap());
    let instance = Instance::answering("a", Act::Send(ok("", "served"))).await;
    assert_eq!(internal.heartbeat("a", instance.address, "serving").await.status, 200);
    assert_eq!(internal.n_in_service().await, 1);
    eventually(async || internal.metrics().await.contains("router_ring_instances 1")).await;
    assert_eq!(internal.send("GET /ping", "", b"").await.status, 200);

    let unknown = "The requested operation is not recognized by the service.";
    let unknown = |answer: Response| answer.check_error(404, "UnknownOperationException", unknown);
    unknown(internal.invoke("m.tar.gz", b"").await);
    unknown(router.send("GET /manifold/v1/instances", "", b"").await);
    unknown(router.heartbeat("b", instance.address, "serving").await);
    assert_eq!(router.invoke("m.tar.gz", b"").await.text(), "served");
}
