//! Promise: a resident model answers at once, on the instance where it lives.

use tests::{Cluster, eventually};

#[tokio::test]
async fn second_invocation_is_a_hit_on_the_same_instance() {
    let cluster = Cluster::builder().workers(2).start().await;
    let models = cluster.publish_echo_models(8).await;

    for model in &models {
        let cold = cluster.client().invoke(model, b"cold").await;
        let warm = cluster.client().invoke(model, b"warm").await;

        assert_eq!((cold.status, cold.is_hit()), (200, false), "{model}: {}", cold.text());
        assert_eq!((warm.status, warm.is_hit()), (200, true), "{model}: {}", warm.text());
        assert_eq!(warm.instance(), cold.instance(), "{model}");
    }
}

#[tokio::test]
async fn answer_passes_body_content_type_and_variant_through() {
    let cluster = Cluster::builder().start().await;
    let models = cluster.publish_echo_models(1).await;
    let body: Vec<u8> = (0..=255).collect();

    let answer = cluster.client().invoke(&models[0], &body).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.body, body);
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("x-amzn-invoked-production-variant"), "AllTraffic");
    assert!(!answer.header("x-amzn-requestid").is_empty());
}

#[tokio::test]
async fn each_model_is_resident_on_one_instance_alone() {
    let cluster = Cluster::builder().workers(2).start().await;
    let models = cluster.publish_echo_models(8).await;
    for model in models.iter().chain(&models) {
        cluster.client().invoke(model, b"x").await;
    }

    eventually(async || {
        let instances = cluster.client().instances().await;
        instances.iter().map(|instance| instance.n_resident).sum::<usize>() == models.len()
    })
    .await;
}
