//! What Multi Model Server 1.1 does and should not, a test for each (docs/handlers.md, "What is
//! different"). That nothing outlives a killed worker is a scenario, as is a kill for memory.

use crate::worker::{Worker, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::fs;
use tokio::join;

/// Answers with its process, or does what it is told to.
const SERVICE: &str = r"
import os, signal, subprocess, sys, time

FOLDER = os.path.dirname(os.path.abspath(__file__))

def handle(data, context):
    if data is None:
        return load()
    told = [bytes(it['body']) if isinstance(it.get('body'), bytearray) else it.get('body') for it in data]
    if told[0] == b'wait':
        mark('running')
        while not os.path.exists(os.path.join(FOLDER, 'go')):
            time.sleep(0.01)
    if told[0] == b'child':
        child = subprocess.Popen(['sleep', '1000'])
        mark('child', child.pid)
        child.wait()
    if b'raise' in told:
        raise ValueError('as told')
    if told[0] == b'huge':
        return ['x' * 5000] * len(data)
    return [str(os.getpid())] * len(data)

def load():
    mark('process', os.getpid())
    if os.path.exists(os.path.join(FOLDER, 'no-memory')):
        raise MemoryError('as told')

def mark(name, text=''):
    with open(os.path.join(FOLDER, name + '.new'), 'w') as file:
        file.write(str(text))
    os.rename(os.path.join(FOLDER, name + '.new'), os.path.join(FOLDER, name))
";

impl Worker {
    /// Writes a handler and returns the path that registers it.
    fn handler(&self, name: &str, text: &str, query: &str) -> String {
        let folder = self.models.path().join(name).join("model");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("service.py"), text).unwrap();
        let url = folder.display();
        format!("/models?model_name={name}&url={url}&handler=service:handle{query}")
    }

    async fn post(&self, path: &str) -> (StatusCode, Value) {
        self.json(self.call(Method::POST, path)).await
    }

    async fn delete_model(&self, name: &str) -> StatusCode {
        let path = format!("/models/{name}");
        self.call(Method::DELETE, &path).send().await.unwrap().status()
    }

    /// Invokes and returns the status with what was said.
    async fn tell(&self, name: &str, body: &str) -> (u16, String) {
        let call = self.call(Method::POST, &format!("/models/{name}/invoke")).body(body.to_owned());
        let answer = call.header("content-type", "text/plain").send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What a model's handler has written down.
    fn mark(&self, name: &str, mark: &str) -> Option<String> {
        fs::read_to_string(self.models.path().join(name).join("model").join(mark)).ok()
    }

    async fn marked(&self, name: &str, mark: &str) -> String {
        until(async || self.mark(name, mark).is_some()).await;
        self.mark(name, mark).unwrap()
    }
}

/// Whether a process runs; one that ended and that nobody has looked at does not.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn a_load_without_memory_leaves_neither_a_registration_nor_a_process() {
    let worker = Worker::start(&[]).await;
    let register = worker.handler("m", SERVICE, "");
    let no_memory = worker.models.path().join("m/model/no-memory");
    fs::write(&no_memory, "").unwrap();
    for _ in 0..2 {
        let (status, told) = worker.post(&register).await;
        assert_eq!(status, 507, "{told}");
        let (names, _) = worker.names("").await;
        assert!(names.is_empty(), "{names:?}");
        let pid = worker.marked("m", "process").await;
        until(async || !runs(&pid)).await;
    }
    fs::remove_file(no_memory).unwrap();
    assert_eq!(worker.post(&register).await.0, 200);
}

#[tokio::test]
async fn a_load_that_takes_too_long_leaves_neither_a_registration_nor_a_process() {
    let worker = Worker::start(&["--load-timeout-s", "1"]).await;
    let slow = SERVICE.replace(
        "def load():",
        "def load():\n    mark('process', os.getpid())\n    time.sleep(1000)",
    );
    let (status, told) = worker.post(&worker.handler("m", &slow, "")).await;
    assert!(status.is_server_error(), "{told}");
    let pid = worker.marked("m", "process").await;
    until(async || !runs(&pid)).await;
    assert_eq!(worker.post(&worker.handler("m", SERVICE, "")).await.0, 200);
}

#[tokio::test]
async fn whoever_waits_when_a_model_is_unloaded_or_scaled_to_none_gets_an_answer() {
    for scaled in [false, true] {
        let worker = Worker::start(&[]).await;
        worker.post(&worker.handler("m", SERVICE, "")).await;
        let end = async {
            worker.marked("m", "running").await;
            if scaled {
                let call = worker.call(Method::PUT, "/models/m?min_worker=0&synchronous=true");
                call.send().await.unwrap().status()
            } else {
                worker.delete_model("m").await
            }
        };
        let release = async {
            worker.marked("m", "running").await;
            fs::write(worker.models.path().join("m/model/go"), "").unwrap();
        };
        let queued = async {
            worker.marked("m", "running").await;
            worker.tell("m", "queued").await
        };
        let (running, queued, ended, ()) = join!(worker.tell("m", "wait"), queued, end, release);
        assert_eq!((running.0, ended.as_u16()), (200, 200), "{running:?}");
        assert!([200, 404, 503].contains(&queued.0), "{queued:?}");
        let pid = worker.marked("m", "process").await;
        until(async || !runs(&pid)).await;
    }
}

#[tokio::test]
async fn a_batch_that_fails_fails_for_each_alike_and_its_process_goes_on() {
    let worker = Worker::start(&[]).await;
    let query = "&batch_size=2&max_batch_delay=20000";
    worker.post(&worker.handler("m", SERVICE, query)).await;
    let pid = worker.marked("m", "process").await;
    let (one, two) = join!(worker.tell("m", "raise"), worker.tell("m", "other"));
    assert_eq!(one, two);
    assert!(one.0 == 503 && one.1.contains("Prediction failed"), "{one:?}");
    let (one, two) = join!(worker.tell("m", "x"), worker.tell("m", "x"));
    assert_eq!((&one, &two), (&(200, pid.clone()), &(200, pid)));
}

#[tokio::test]
async fn json_that_is_none_is_the_client_s_fault_and_the_process_goes_on() {
    let worker = Worker::start(&["--handler-decodes-input"]).await;
    worker.post(&worker.handler("m", SERVICE, "")).await;
    let pid = worker.marked("m", "process").await;
    let call = worker.call(Method::POST, "/models/m/invoke").body("{\"a\": ");
    let answer = call.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(answer.status(), 400, "{}", answer.text().await.unwrap());
    assert_eq!(worker.tell("m", "x").await, (200, pid));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_said_to_be_and_the_process_goes_on() {
    let worker = Worker::start(&["--handler-max-answer-bytes", "1000"]).await;
    worker.post(&worker.handler("m", SERVICE, "")).await;
    let pid = worker.marked("m", "process").await;
    let (status, text) = worker.tell("m", "huge").await;
    assert!(status == 500 && text.contains("1000"), "{status}: {text}");
    assert_eq!(worker.tell("m", "x").await, (200, pid));
}

#[tokio::test]
async fn a_handler_out_of_time_ends_with_all_that_it_has_started() {
    let worker = Worker::start(&["--handler-timeout-s", "1"]).await;
    worker.post(&worker.handler("m", SERVICE, "")).await;
    let pid = worker.marked("m", "process").await;
    let (status, text) = worker.tell("m", "child").await;
    assert!(status == 500 && text.contains("did not answer within 1s"), "{status}: {text}");
    let child = worker.marked("m", "child").await;
    until(async || !runs(&pid) && !runs(&child)).await;
    assert_eq!(worker.tell("m", "x").await.0, 200);
}

#[tokio::test]
async fn a_class_that_cannot_initialize_does_not_load_and_one_that_need_not_does() {
    let worker = Worker::start(&[]).await;
    let raising = "class Service:\n    def initialize(self, context):\n        raise ValueError('as told')\n    def handle(self, data, context):\n        return ['x']\n";
    let (status, told) = worker.post(&worker.handler("m", raising, "")).await;
    assert_eq!(status, 500, "{told}");
    assert!(told["message"].as_str().unwrap().contains("as told"), "{told}");
    assert!(worker.names("").await.0.is_empty());

    let plain = "class Service:\n    def handle(self, data, context):\n        return ['x']\n";
    assert_eq!(worker.post(&worker.handler("n", plain, "")).await.0, 200);
    assert_eq!(worker.tell("n", "").await, (200, "x".to_owned()));
}

#[tokio::test]
async fn a_ping_succeeds_while_models_fail_and_their_state_is_told_elsewhere() {
    let worker = Worker::start(&[]).await;
    let query = "&initial_workers=0";
    worker.post(&worker.handler("m", SERVICE, query)).await;
    assert_eq!(worker.call(Method::GET, "/ping").send().await.unwrap().status(), 200);
    let (_, told) = worker.json(worker.call(Method::GET, "/models/m")).await;
    assert_eq!(told["workers"], json!([]));
}
