//! Promise: `manifold demo` walks through the multi-model story on real models, and leaves nothing.

use std::fs;
use tests::{Cluster, Launcher, archives, binaries};
use tokio::process::Command;

/// How far a probability may be from the reference: picture decoders and processors differ.
const TOLERANCE: f64 = 0.01;

/// The likeliest classes of the cat by the models' own implementation in Python, the whole picture
/// resized bilinearly with antialiasing (Pillow).
const REFERENCES: [(&str, [(&str, f64); 4]); 3] = [
    (
        "efficientnet_lite0.tar.gz",
        [("Egyptian cat", 0.8117), ("tiger cat", 0.0769), ("tabby", 0.0668), ("lynx", 0.0091)],
    ),
    (
        "efficientnet_lite1.tar.gz",
        [("Egyptian cat", 0.7962), ("tabby", 0.0565), ("tiger cat", 0.0502), ("lynx", 0.0104)],
    ),
    (
        "efficientnet_lite2.tar.gz",
        [("Egyptian cat", 0.7413), ("tiger cat", 0.0616), ("tabby", 0.0430), ("lynx", 0.0178)],
    ),
];

/// Reads the five classes of a model from the demo's table: in its row and the four below.
fn classes(output: &str, model: &str) -> Vec<(String, f64)> {
    let rows = output.lines().skip_while(|line| !line.trim_start().starts_with(model));
    let class = |row: &str| {
        let (probability, name) = row.rsplit("  ").next()?.trim().split_once(' ')?;
        Some((name.to_owned(), probability.parse().ok()?))
    };
    rows.take(5).map(|row| class(row).unwrap_or_else(|| panic!("no class: {row}"))).collect()
}

#[tokio::test]
async fn demo_gives_the_reference_answers_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let models = archives::zoo_folder().canonicalize().expect("`make models` has made them");
    let models = models.display().to_string();
    let mut demo = Launcher::start(folder.path(), &["demo", "--models", &models]);

    let status = demo.ended().await;

    let output = demo.output();
    assert!(status.success(), "{status}: {output}");
    for (model, reference) in REFERENCES {
        let classes = classes(&output, model);
        assert_eq!(classes[0].0, reference[0].0, "{model}");
        for (name, expected) in reference {
            let class = classes.iter().find(|(class, _)| class == name);
            let (_, probability) = class.unwrap_or_else(|| panic!("{model}: no {name}: {output}"));
            assert!((probability - expected).abs() <= TOLERANCE, "{model}, {name}: {probability}");
        }
    }
    for step in ["added ", "updated ", "100 invocations of random models", "everything stopped"] {
        assert!(output.contains(step), "no `{step}` in {output}");
    }
    assert!(demo.left_running().is_empty());
    let left = fs::read_dir(demo.data()).expect("the demo makes the folder it is told");
    assert_eq!(left.count(), 0, "its own folder is removed");
}

/// Runs `manifold invoke` and returns its exit code, answer and diagnosis.
async fn invoke(cluster: &Cluster, model: &str) -> (Option<i32>, String, String) {
    let cat = concat!(env!("CARGO_MANIFEST_DIR"), "/../driver/assets/cat.jpg");
    let invoke = Command::new(binaries().manifold)
        .args(["invoke", "--router", cluster.client().router_url(), "--target-model", model])
        .args(["--content-type", "image/jpeg", "--body", cat])
        // It keeps the user's proxies, and so the user's exceptions from them.
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .expect("manifold runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (invoke.status.code(), text(&invoke.stdout), text(&invoke.stderr))
}

#[tokio::test]
async fn invoke_prints_the_answer_and_where_it_came_from() {
    let cluster = Cluster::builder().memory_budget(1 << 30).start().await;
    let model = "efficientnet_lite0.tar.gz";
    cluster.publish(model, archives::zoo(model)).await;

    let (code, answer, diagnosis) = invoke(&cluster, model).await;

    assert_eq!(code, Some(0), "{answer}{diagnosis}");
    let classes: Vec<String> = serde_json::from_str(&answer).expect("a list of texts");
    assert_eq!(classes.len(), 5);
    assert!(classes[0].ends_with("class=Egyptian cat"), "{answer}");
    assert!(diagnosis.contains("200  instance worker-0  cache miss"), "{diagnosis}");

    let (code, answer, diagnosis) = invoke(&cluster, "absent.tar.gz").await;

    assert_eq!(code, Some(1), "{answer}{diagnosis}");
    assert!(answer.contains("Failed to download model data"), "{answer}");
    assert!(diagnosis.starts_with("400  "), "{diagnosis}");
}
