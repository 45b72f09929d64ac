//! What it costs to verify a signed invocation, from its head to its caller, by the size of its body.

use actix_web::{HttpRequest, test::TestRequest};
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use router::auth::{
    Gate,
    api::Api,
    keyring::{Key, Keyring},
    secret::Secret,
};
use std::{hint::black_box, time::SystemTime};

const PATH: &str = "/endpoints/demo/invocations";

/// What boto3 sends, less what it does not sign.
const HEADERS: [(&str, &str); 4] = [
    ("host", "127.0.0.1:8080"),
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("x-amzn-sagemaker-target-model", "demo-subfolder/squeezenet_v1.0_3.tar.gz"),
];

fn signed(body: &[u8]) -> HttpRequest {
    let identity = Credentials::new("AKIA", "hush", None, None, "bench").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("sagemaker")
        // Good for five minutes, far longer than a measurement takes.
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .expect("complete")
        .into();
    let uri = format!("http://127.0.0.1:8080{PATH}");
    let headers = HEADERS.into_iter();
    let signable = SignableRequest::new("POST", &uri, headers, SignableBody::Bytes(body));
    let signed = sign(signable.expect("valid"), &params).expect("signs");
    let (instructions, _) = signed.into_parts();
    let mut request = TestRequest::post().uri(PATH);
    for header in HEADERS.into_iter().chain(instructions.headers()) {
        request = request.append_header(header);
    }
    request.append_header(("user-agent", "Boto3/1.44.5")).to_http_request()
}

fn verify(c: &mut Criterion) {
    let key = Key::new("AKIA".to_owned(), Secret::new("hush"), "arn".to_owned());
    let guarded = Gate::with(Keyring::new([key]).expect("one key"));
    let mut group = c.benchmark_group("signature/verify");
    for n_bytes in [0, 1024, 64 * 1024, 256 * 1024] {
        let body = vec![7; n_bytes];
        let request = signed(&body);
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(BenchmarkId::from_parameter(n_bytes), &body, |b, body| {
            b.iter(|| {
                let visitor = guarded.admit(black_box(&request), Api::Runtime).expect("admitted");
                black_box(visitor.identify(body).expect("identified"))
            });
        });
    }
    group.finish();

    let open = Gate::open();
    let (body, request) = (vec![7; 1024], TestRequest::post().uri(PATH).to_http_request());
    c.bench_function("signature/open-gate", |b| {
        b.iter(|| {
            let visitor = open.admit(black_box(&request), Api::Runtime).expect("admitted");
            black_box(visitor.identify(black_box(&body)).expect("identified"))
        });
    });
}

criterion_group!(benches, verify);
criterion_main!(benches);
