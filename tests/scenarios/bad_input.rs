//! Promise: wrong input is answered with what is wrong with it, as the model's own error.

use tests::{Cluster, TestAnswer, archives};

const CAT: &[u8] = include_bytes!("../../driver/assets/cat.jpg");

async fn cluster() -> Cluster {
    let cluster = Cluster::builder().memory_budget(1 << 30).start().await;
    for model in ["squeezenet_v1.0.tar.gz", "tiny_mlp.tar.gz"] {
        cluster.publish(model, archives::zoo(model)).await;
    }
    cluster
}

async fn invoke(cluster: &Cluster, model: &str, kind: &str, body: &[u8]) -> TestAnswer {
    let headers =
        [("x-amzn-sagemaker-target-model", model.as_bytes()), ("content-type", kind.as_bytes())];
    cluster.client().post("/endpoints/demo/invocations", &headers, body).await
}

/// Fails unless the answer is the model's own error with this status and text.
#[track_caller]
fn check(answer: &TestAnswer, status: u16, text: &str) {
    let message = answer.expect_error(424, "ModelError");
    let body = answer.json();
    assert_eq!(body["OriginalStatusCode"], status, "{message}");
    assert_eq!(body["OriginalMessage"], text);
    assert_eq!(body["ErrorCode"], "CLIENT_ERROR_FROM_MODEL");
    assert!(message.starts_with(&format!("Received client error ({status}) from primary")));
}

/// A PNG whose header claims more than any memory holds.
fn huge_png() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend(100_000_u32.to_be_bytes());
    png.extend(100_000_u32.to_be_bytes());
    png.extend([8, 2, 0, 0, 0]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&png[12..]);
    png.extend(checksum.sum().to_be_bytes());
    png
}

/// A WebP of the extended kind with the animation flag and no frame.
fn animated_webp() -> Vec<u8> {
    let mut chunks = b"WEBPVP8X\x0a\0\0\0\x02\0\0\0\x0f\0\0\x0f\0\0".to_vec();
    chunks.extend(b"ANIM\x06\0\0\0\0\0\0\0\0\0");
    let frame = b"ANMF\x10\0\0\0\0\0\0\0\0\0\x0f\0\0\x0f\0\0\x64\0\0\0";
    chunks.extend(frame);
    let mut webp = b"RIFF".to_vec();
    webp.extend(u32::try_from(chunks.len()).expect("small").to_le_bytes());
    webp.extend(chunks);
    webp
}

#[tokio::test]
async fn pictures_that_are_none_are_said_to_be_none() {
    let cluster = cluster().await;
    let pictures: [(&[u8], &str, &str); 5] = [
        (b"not a picture", "image/jpeg", "the body is not a JPEG, PNG or WebP picture"),
        (b"", "image/jpeg", "the body is not a JPEG, PNG or WebP picture"),
        (&CAT[..CAT.len() / 2], "image/jpeg", "the JPEG is truncated: its end marker is missing"),
        (
            &huge_png(),
            "image/png",
            "a picture of 100000 x 100000 pixels is refused: a side is longer than 16384",
        ),
        (&animated_webp(), "image/webp", "animated WebPs are not served: send one picture"),
    ];
    for (picture, kind, text) in pictures {
        let answer = invoke(&cluster, "squeezenet_v1.0.tar.gz", kind, picture).await;
        check(&answer, 400, &format!("input does not fit the model: {text}"));
    }
    let good = invoke(&cluster, "squeezenet_v1.0.tar.gz", "image/jpeg", CAT).await;
    assert_eq!(good.status, 200, "{}", good.text());
}

#[tokio::test]
async fn tensors_that_do_not_fit_are_told_what_fits() {
    let cluster = cluster().await;
    let tensors: [(&[u8], &str); 3] = [
        (b"[[1, 2, 3]]", "the shape is [1, 3], the model takes [-1, 16] (-1 is any)"),
        (
            b"[[1, 2], [3]]",
            "the body is not JSON with nested lists of numbers: ragged: a list of 1 beside one of 2 \
             at line 1 column 12",
        ),
        (
            b"[[NaN]]",
            "JSON has no NaN and no Infinity (line 1 column 3): send application/x-npy or text/csv \
             instead",
        ),
    ];
    for (tensor, text) in tensors {
        let answer = invoke(&cluster, "tiny_mlp.tar.gz", "application/json", tensor).await;
        check(&answer, 400, &format!("input does not fit the model: {text}"));
    }
}

#[tokio::test]
async fn types_that_are_not_served_are_named() {
    let cluster = cluster().await;
    let answer = invoke(&cluster, "tiny_mlp.tar.gz", "audio/midi", b"x").await;
    let text = "content type `audio/midi` is not served here: this model takes application/json, \
                text/csv or application/x-npy";
    check(&answer, 415, text);
}

#[tokio::test]
async fn a_body_over_25_mb_is_413_and_the_connection_lives_to_tell() {
    let cluster = Cluster::builder().start().await;
    cluster.publish("echo.tar.gz", archives::echo()).await;

    let answer = cluster.client().invoke("echo.tar.gz", &vec![0; 26_214_401]).await;
    let message = answer.expect_error(413, "ValidationError");
    let expected = "1 validation error detected: Value at 'body' failed to satisfy constraint: \
                    Member must have length less than or equal to 26214400";
    assert_eq!(message, expected);

    let exact = cluster.client().invoke("echo.tar.gz", &vec![0; 26_214_400]).await;
    assert_eq!(exact.status, 200, "{}", exact.text());
}
