//! Handlers in real processes.

mod environments;

use super::*;
use crate::{
    artifact::disk_cache::ArtifactLease,
    meter::Meter,
    runtime::{InputHead, ModelInput, ModelOutput},
};
use std::{fs, sync::Arc};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// A model of one handler module, `service.py`.
struct Fixture {
    folder: TempDir,
    handlers: Handlers,
}

impl Fixture {
    fn new(module: &str, change: impl FnOnce(&mut HandlerConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("model")).unwrap();
        fs::write(folder.path().join("model/service.py"), module).unwrap();
        let mut config = HandlerConfig::for_tests();
        config.default_handler = Some("service:handle".to_owned());
        change(&mut config);
        let handlers = Handlers::start(config, folder.path(), HandlerMetrics::default()).unwrap();
        Self { folder, handlers }
    }

    async fn load(&self) -> Result<impl Outside + use<>, RuntimeError> {
        let path = self.folder.path().join("model");
        let found = Found::look(&path, self.handlers.config())?.expect("a handler is configured");
        let artifact = Artifact {
            address: format!("file://{}", path.display()).parse().unwrap(),
            lease: ArtifactLease::in_place(path),
            meter: Arc::new(Meter::default()),
        };
        self.handlers.load(found, artifact).await
    }

    async fn failure(&self) -> RuntimeError {
        self.load().await.expect_err("it does not load")
    }
}

/// A model whose handler is this module.
async fn loaded(module: &str) -> (Fixture, impl Outside) {
    let fixture = Fixture::new(module, |_| {});
    let model = fixture.load().await.unwrap();
    (fixture, model)
}

async fn invoke(model: &impl Outside, body: &str) -> Result<ModelOutput, RuntimeError> {
    let head = InputHead {
        invocation_id: "id-1".to_owned(),
        headers: vec![("Content-Type".to_owned(), "text/plain".to_owned())],
        query: vec![("page".to_owned(), "7".to_owned())],
    };
    let input = ModelInput {
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        accept: None,
        body: body.to_owned().into(),
        head: Some(Box::new(head)),
    };
    model.invoke(input, Instant::now() + Duration::from_mins(1)).await
}

async fn text(model: &impl Outside, body: &str) -> String {
    let output = invoke(model, body).await.unwrap();
    String::from_utf8(output.body.to_vec()).unwrap()
}

/// Waits for a state that must come.
async fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come");
        sleep(Duration::from_millis(10)).await;
    }
}

fn is_alive(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // A zombie has ended; whoever inherited it has not looked yet.
    !stat.is_empty() && !stat.contains(") Z ")
}

const ECHO: &str = "
import os
def handle(data, context):
    if data is None:
        return
    if data[0]['body'] == b'die':
        os._exit(3)
    if data[0]['body'] == b'pid':
        return [str(os.getpid())]
    return [bytes(row['body']) for row in data]
";

#[tokio::test]
async fn a_function_gets_the_body_and_the_context_of_its_request() {
    let (fixture, model) = loaded(
        "
import os
calls = []
def handle(data, context):
    calls.append(data)
    if data is None:
        return
    assert calls[0] is None and isinstance(data[0]['body'], bytearray)
    context.set_response_status(201, 'Made', 0)
    context.set_response_header(0, 'X-Made', 'yes')
    return [{
        'cwd': os.getcwd(),
        'type': context.get_request_header(0, 'CONTENT-type'),
        'id': context.get_request_id(0),
        'page': data[0]['page'].decode(),
        'batch': context.system_properties['batch_size'],
    }]
",
    )
    .await;
    let output = invoke(&model, "x").await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&output.body).unwrap();
    let folder = fixture.folder.path().join("model").canonicalize().unwrap();
    assert_eq!(body["cwd"], folder.to_str().unwrap());
    assert_eq!((&body["type"], &body["id"]), (&"text/plain".into(), &"id-1".into()));
    assert_eq!(body["page"], "7");
    let head = output.head.unwrap();
    assert_eq!(head.status, 201);
    assert_eq!(head.headers, [("X-Made".to_owned(), "yes".to_owned())]);
    assert_eq!(output.content_type, None);
    model.unload().await;
}

#[tokio::test]
async fn what_a_handler_raises_is_told_and_the_process_goes_on() {
    let (_fixture, model) = loaded(
        "
import os
from mms.service import PredictionException
class Service:
    def initialize(self, context):
        self.n = 0
    def handle(self, data, context):
        self.n += 1
        what = bytes(data[0]['body']).decode()
        if what == 'raise': raise ValueError('secret of the server')
        if what == 'memory': raise MemoryError()
        if what == 'own': raise PredictionException('no such cat', 418)
        if what == 'tuple': return ('a',)
        if what == 'many': return ['a', 'b']
        if what == 'object': return [object()]
        if what == 'large': return ['x' * 2_000_000]
        return [str(self.n)]
",
    )
    .await;
    let handler = |status, message: &str| RuntimeError::Handler { status, message: message.into() };
    for (body, expected) in [
        ("raise", handler(503, "Prediction failed")),
        ("memory", RuntimeError::OutOfMemory("Out of resources".into())),
        ("own", handler(418, "no such cat")),
        ("tuple", handler(503, "Invalid model predict output")),
        ("many", handler(503, "number of batch response mismatched")),
        ("object", handler(503, "Unsupported model output data type.")),
        (
            "large",
            handler(
                500,
                "The model's answer is larger than the 1048576 bytes that the server takes.",
            ),
        ),
    ] {
        assert_eq!(invoke(&model, body).await, Err(expected), "{body}");
    }
    assert_eq!(text(&model, "").await, "8", "one process answered all");
    model.unload().await;
}

#[tokio::test]
async fn a_handler_that_cannot_load_says_why_and_leaves_no_process() {
    for (module, expected) in [
        ("import nonsense", "ModuleNotFoundError: No module named 'nonsense'"),
        ("def handle(data, context): raise KeyError('weights')", "KeyError: 'weights'"),
        ("class A: pass\nclass B: pass", "neither a function 'handle' nor exactly one class"),
        (
            "class A:\n def initialize(self, context): raise ValueError('no')\n def handle(self, d, c): pass",
            "ValueError: no",
        ),
        ("import sys; sys.exit(4)", "SystemExit: 4"),
    ] {
        let failure = Fixture::new(module, |_| {}).failure().await;
        assert!(matches!(failure, RuntimeError::NotLoaded(_)), "{failure:?}");
        assert!(failure.to_string().contains(expected), "{failure}");
    }
    let memory = Fixture::new("raise MemoryError('no room')", |_| {}).failure().await;
    assert!(matches!(memory, RuntimeError::OutOfMemory(_)), "{memory:?}");
    let killed = Fixture::new("import os; os._exit(9)", |_| {}).failure().await;
    assert_eq!(killed, RuntimeError::HandlerDied("exited with code 9".into()));
    let no_python = Fixture::new("", |it| it.python = "no-such-python".into()).failure().await;
    assert!(no_python.to_string().contains("cannot be started: `no-such-python`"), "{no_python}");
}

#[tokio::test]
async fn a_handler_that_dies_fails_its_invocation_and_the_next_one_is_served() {
    let (_fixture, model) = loaded(ECHO).await;
    let before = text(&model, "pid").await;
    let died = invoke(&model, "die").await.unwrap_err();
    assert_eq!(died, RuntimeError::HandlerDied("exited with code 3".into()));
    let after = text(&model, "pid").await;
    assert_ne!(before, after);
    model.unload().await;
    eventually(|| !is_alive(&after)).await;
}

#[tokio::test]
async fn a_handler_that_hangs_is_killed_after_its_time() {
    let fixture = Fixture::new(
        "
import os, time
def handle(data, context):
    if data and data[0]['body'] == b'hang':
        time.sleep(1000)
    return [str(os.getpid())] if data else None
",
        |it| it.timeout = Duration::from_millis(300),
    );
    let model = fixture.load().await.unwrap();
    let before = text(&model, "").await;
    let hung = invoke(&model, "hang").await.unwrap_err();
    assert_eq!(hung.to_string(), "the handler process did not answer within 300ms and was killed");
    eventually(|| !is_alive(&before)).await;
    assert_ne!(text(&model, "").await, before);
    model.unload().await;
}

#[tokio::test]
async fn requests_of_one_batch_fail_together_and_succeed_each_with_its_own_answer() {
    let fixture = Fixture::new(
        "
def handle(data, context):
    if data is None:
        return
    bodies = [bytes(row['body']).decode() for row in data]
    if 'bad' in bodies:
        raise ValueError('bad')
    return [f'{body} of {len(data)}' for body in bodies]
",
        |it| it.batching = Batching { max_calls: 3, max_delay: Duration::from_secs(20) },
    );
    let model = fixture.load().await.unwrap();
    let answers = tokio::join!(text(&model, "a"), text(&model, "b"), text(&model, "c"));
    assert_eq!(answers, ("a of 3".into(), "b of 3".into(), "c of 3".into()));
    let answers = tokio::join!(invoke(&model, "a"), invoke(&model, "bad"), invoke(&model, "c"));
    let failed = RuntimeError::Handler { status: 503, message: "Prediction failed".into() };
    assert_eq!(answers, (Err(failed.clone()), Err(failed.clone()), Err(failed)));
    model.unload().await;
}

#[tokio::test]
async fn what_a_handler_started_ends_with_it() {
    let (_fixture, model) = loaded(
        "
import subprocess
def handle(data, context):
    if data is None:
        return
    return [str(subprocess.Popen(['sleep', '1000']).pid)]
",
    )
    .await;
    let child = text(&model, "").await;
    assert!(is_alive(&child));
    model.unload().await;
    eventually(|| !is_alive(&child)).await;
}

#[tokio::test]
async fn an_invocation_whose_caller_has_gone_does_not_begin() {
    let (fixture, model) = loaded(
        "
import os, time
seen = []
def handle(data, context):
    if data is None:
        return
    body = bytes(data[0]['body']).decode()
    seen.append(body)
    if body == 'slow':
        open('begun', 'w').close()
        while not os.path.exists('end'):
            time.sleep(0.01)
    return [','.join(seen)]
",
    )
    .await;
    let model = Arc::new(model);
    let slow = tokio::spawn({
        let model = Arc::clone(&model);
        async move { text(&*model, "slow").await }
    });
    let folder = fixture.folder.path().join("model");
    eventually(|| folder.join("begun").exists()).await;
    // One waits beside the slow one in the process, one in the queue; both callers go.
    for _ in 0..2 {
        let gone = tokio::time::timeout(Duration::from_millis(100), invoke(&*model, "gone"));
        assert!(gone.await.is_err());
    }
    fs::write(folder.join("end"), "").unwrap();
    slow.await.unwrap();
    let seen = text(&*model, "last").await;
    assert_eq!(seen, "slow,last");
    model.unload().await;
}

#[tokio::test]
async fn an_unload_does_not_wait_for_what_nobody_waits_for() {
    let (fixture, model) = loaded(
        "
import os, time
def handle(data, context):
    if data:
        with open('pid', 'w') as file:
            file.write(str(os.getpid()))
        time.sleep(1000)
",
    )
    .await;
    let pid = fixture.folder.path().join("model/pid");
    let gone = tokio::time::timeout(Duration::from_secs(1), invoke(&model, ""));
    assert!(gone.await.is_err());
    let pid = fs::read_to_string(pid).unwrap();
    let began = Instant::now();
    model.unload().await;
    assert!(!is_alive(&pid) && began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn several_processes_share_the_work_and_all_end() {
    let fixture = Fixture::new(
        "
import os, time
def handle(data, context):
    if data:
        time.sleep(0.2)
        return [str(os.getpid())]
",
        |it| it.n_processes = 2,
    );
    let model = fixture.load().await.unwrap();
    let (one, other) = tokio::join!(text(&model, ""), text(&model, ""));
    assert_ne!(one, other);
    assert!(model.footprint().resident_bytes > 4 << 20, "{:?}", model.footprint());
    model.unload().await;
    assert!(!is_alive(&one) && !is_alive(&other));
    assert_eq!(invoke(&model, "").await, Err(RuntimeError::Unloaded));
}
