//! Promise: the load driver sends what its plan says, and hides nothing of what becomes of it.

use driver::{
    load::{self, Arrivals, Check, Load, LoadResult, Pace, Plan},
    models::{BUCKET, ModelStore, PREFIX},
};
use shared::id::TargetModel;
use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tests::{Cluster, Launcher, archives, binaries, processes};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

/// As an interrupted program of a shell.
const INTERRUPTED: i32 = 130;

fn targets(models: &[String]) -> Vec<TargetModel> {
    models.iter().map(|model| model.parse().expect("a test names models")).collect()
}

/// Starts `manifold load` with these flags, and its result in a folder.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binaries().manifold);
    command.arg("load").args(args).kill_on_drop(true).current_dir(folder).env_clear();
    command.args(["--json", "result.json", "--html", "result.html"]).stdin(Stdio::null());
    command
}

async fn run(folder: &Path, args: &[&str]) -> (ExitStatus, String, LoadResult) {
    let output = command(folder, args).output().await.expect("manifold starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("it prints text");
    (output.status, text, result(folder))
}

fn result(folder: &Path) -> LoadResult {
    let json = std::fs::read(folder.join("result.json")).expect("it writes a result");
    serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{error}: {json:?}"))
}

#[tokio::test]
async fn stopped_worker_shows_in_the_latency_and_not_in_the_rate() {
    let cluster = Cluster::builder().start().await;
    let models = cluster.publish_echo_models(4).await;
    for model in &models {
        cluster.client().invoke(model, b"warm").await;
    }
    let pace = Pace::Open { arrivals: Arrivals::Even { rate: 200.0 }, max_in_flight: 1_000 };
    let mut load = Load::start(Plan {
        pace,
        duration: Duration::from_secs(4),
        check: Check::Echo,
        ..Plan::closed(cluster.client().router_url(), &targets(&models), 1)
    })
    .unwrap();
    let mut progress = load.watch();
    progress.wait_for(|it| it.totals.n_ok >= 50).await.unwrap();

    let worker = cluster.worker(0).pid().await.unwrap();
    processes::freeze(worker);
    let in_flight = progress.wait_for(|it| it.n_in_flight >= 100).await.map(|it| it.n_in_flight);
    processes::thaw(worker);

    let result = load.result().await.unwrap();
    let totals = result.totals;
    assert!(totals.add_up() && in_flight.is_ok(), "{totals:?}");
    // On a busy machine it stays stopped for longer, until no more may wait for it.
    let n_ended = totals.n_ok + totals.n_unavailable;
    assert_eq!((totals.n_due, n_ended), (800, 800), "{:?}", result.errors);
    // A hundred were due while nothing was answered, 5 ms apart: the first eight of them, one in a
    // hundred of all, waited for at least 92 more to be due.
    assert!(result.latency.p99_ms >= 450.0, "{:?}", result.latency);
    // The driver itself was never kept from sending.
    assert!(result.lag.p99_ms < result.latency.p99_ms, "{:?}", result.lag);
    let slots = &result.timeline.slots[..40];
    assert!(slots.iter().all(|slot| slot.n_due == 20), "{slots:?}");
    assert!(slots.iter().any(|slot| slot.n_answered == 0), "{slots:?}");
}

#[tokio::test]
async fn same_seed_asks_the_cluster_for_the_same() {
    let cluster = Cluster::builder().workers(2).routers(2).start().await;
    let models = cluster.publish_echo_models(12).await;
    let routers = [cluster.router(0).url(), cluster.router(1).url()].join(",");
    let folder = tempfile::tempdir().unwrap();
    let mut results = Vec::new();
    for seed in ["5", "5", "6"] {
        let mut args = vec!["--router", &routers, "--rate", "100", "--poisson", "--duration", "2s"];
        args.extend(["--popularity", "zipf:1.1", "--seed", seed, "--expect-echo", "--quiet"]);
        args.extend(models.iter().flat_map(|model| ["--target", model]));
        let (status, text, result) = run(folder.path(), &args).await;
        assert!(status.success(), "{text}");
        assert!(text.contains("open loop, 100 /s (Poisson) for 2.0 s"), "{text}");
        let totals = result.totals;
        assert!(totals.add_up() && totals.n_ok == totals.n_due, "{totals:?} {:?}", result.errors);
        assert_eq!(result.instances.iter().map(|row| row.n_ok).sum::<u64>(), totals.n_ok);
        let asked: Vec<_> =
            result.models.listed.iter().map(|row| (row.model.clone(), row.n_due)).collect();
        assert_eq!(asked.iter().map(|(_, n)| n).sum::<u64>(), totals.n_due);
        let n_sent: Vec<u64> = result.routers.iter().map(|row| row.n_sent).collect();
        assert!(n_sent[0].abs_diff(n_sent[1]) <= 1 && totals.n_retried == 0, "{n_sent:?}");
        assert_eq!(n_sent.iter().sum::<u64>(), totals.n_due);
        results.push((asked, result.heat, totals));
    }
    assert_eq!(results[0].0, results[1].0);
    assert_eq!(results[0].1, results[1].1);
    assert_ne!(results[0].0, results[2].0);
    // The second run finds the models where the first one left them.
    let n_misses = [0, 1].map(|run| results[run].2.n_misses);
    assert!(n_misses[0] >= 10 && n_misses[1] < n_misses[0], "{n_misses:?}");
    let page = std::fs::read_to_string(folder.path().join("result.html")).unwrap();
    assert!(page.contains("echo-0.tar.gz") && page.contains("<svg"));
}

#[tokio::test]
async fn files_say_what_is_asked_when_and_with_what_and_the_store_says_what_there_is() {
    let cluster = Cluster::builder().start().await;
    let models = cluster.publish_echo_models(3).await;
    let folder = tempfile::tempdir().unwrap();
    let url = cluster.client().router_url();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("small.json", "[1]");
    write("large.csv", &"1,2\n".repeat(25_000));
    let [a, b, c] = [&models[0], &models[1], &models[2]];
    write("trace.txt", &format!("# yesterday\n0 {a}\n20 {b}\n20 {a}\n1500 {b}\n600000 {c}\n"));

    let bodies = ["--body", "small.json", "--body", "large.csv", "--expect-echo"];
    let trace = ["--router", url, "--trace", "trace.txt", "--duration", "2s"];
    let (status, text, result) = run(folder.path(), &[&trace[..], &bodies].concat()).await;
    assert!(status.success(), "{text}");
    assert!(text.contains("1 of its entries were left out"), "{text}");
    assert_eq!((result.totals.n_ok, result.n_left_out), (4, 1), "{:?}", result.errors);
    assert_eq!(result.totals.n_bytes_received, 2 * (3 + 100_000));
    let types = result.plan.bodies.iter().map(|body| body.content_type.as_deref());
    assert_eq!(types.collect::<Vec<_>>(), [Some("application/json"), Some("text/csv")]);
    let asked = result.models.listed.iter().map(|row| (row.model.clone(), row.n_due));
    assert_eq!(asked.collect::<Vec<_>>(), [(a.clone(), 2), (b.clone(), 2)]);
    // When they were due, in slots of 100 ms.
    let due = result.timeline.slots.iter().map(|slot| slot.n_due);
    let due: Vec<_> = due.enumerate().filter(|(_, n)| *n > 0).collect();
    assert_eq!(due, [(0, 3), (15, 1)]);

    let prefix = cluster.models_url();
    let listed = ["--router", url, "--prefix", &prefix, "--store", cluster.store_url()];
    let flags = ["--rate", "100", "--duration", "500ms", "--quiet"];
    let (status, text, result) = run(folder.path(), &[&listed[..], &flags].concat()).await;
    assert!(status.success(), "{text}");
    assert_eq!((result.totals.n_ok, result.plan.n_targets), (50, 3), "{:?}", result.errors);
    assert_eq!(result.plan.bodies[0].name, "cat.jpg");
}

#[tokio::test]
async fn cold_share_meets_models_that_are_nowhere() {
    let cluster = Cluster::builder().start().await;
    let models = cluster.publish_echo_models(60).await;
    for model in &models[..4] {
        cluster.client().invoke(model, b"warm").await;
    }
    let plan = Plan {
        cold: Some(load::Cold { share: 0.1, n_warm: 4 }),
        duration: Duration::from_secs(2),
        ..Plan::open(cluster.client().router_url(), &targets(&models), 100.0)
    };
    let totals = load::run(plan).await.unwrap().totals;
    assert_eq!((totals.n_due, totals.n_ok), (200, 200), "{totals:?}");
    assert!(totals.n_cold > 5 && totals.n_misses == totals.n_cold, "{totals:?}");
}

#[tokio::test]
async fn interrupted_run_tells_what_it_has() {
    let cluster = Cluster::builder().start().await;
    let models = cluster.publish_echo_models(1).await;
    let folder = tempfile::tempdir().unwrap();
    let url = cluster.client().router_url();
    let args = ["--router", url, "--target", &models[0], "--duration", "10m"];
    let mut child =
        command(folder.path(), &args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap().expect("it goes on");
        if line.contains("/s") && !line.contains("ok 0 ") {
            break;
        }
    }
    processes::interrupt(child.id().unwrap());
    let status = child.wait().await.unwrap();
    let result = result(folder.path());
    assert_eq!(status.code(), Some(INTERRUPTED), "{result:?}");
    assert!(result.is_interrupted && result.totals.n_ok > 0 && result.totals.add_up());
    assert_eq!(result.totals.n_failed, 0, "{:?}", result.errors);
}

#[tokio::test]
async fn without_flags_it_asks_the_models_of_the_demo_endpoint() {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let mut launcher = Launcher::up(folder.path());
    let client = launcher.in_service().await;
    let store = ModelStore::new(client.router_url());
    for model in ["a.tar.gz", "folder/b.tar.gz"] {
        store.put(BUCKET, &format!("{PREFIX}{model}"), archives::echo()).await.unwrap();
    }

    let args = ["--router", client.router_url(), "--duration", "1s"];
    let (status, text, result) = run(folder.path(), &args).await;

    assert!(status.success(), "{text}");
    assert!(text.contains("closed loop, 8 clients for 1.0 s; 2 of 2 models asked"), "{text}");
    assert_eq!(result.plan.bodies[0].name, "cat.jpg");
    assert_eq!(result.totals.n_ok, result.totals.n_due, "{:?}", result.errors);
    let status = Command::new(binaries().manifold)
        .args(["load", "compare", "result.json", "result.json"])
        .current_dir(folder.path())
        .output()
        .await
        .unwrap();
    let table = String::from_utf8(status.stdout).unwrap();
    assert!(table.contains("latency p99") && table.contains("+0.0 %"), "{table}");
    launcher.stop().await;
}
