//! A container that a worker is an agent before: a second worker, which speaks the same contract, at an
//! address that it keeps.

use crate::{cluster::binaries, ports, processes};
use driver::child::{Child, ChildSpec};
use serde_json::Value;
use std::{ffi::OsString, path::Path};
use tempfile::TempDir;
use tokio::sync::Mutex;

#[derive(Debug)]
pub struct Backend {
    spec: ChildSpec,
    child: Mutex<Child>,
    url: String,
    /// Where the agent unpacks for it.
    models: TempDir,
    _folder: TempDir,
}

impl Backend {
    /// Starts one that may read what its agent unpacks, with more flags.
    pub async fn start(flags: &[&str]) -> Self {
        let folder = || tempfile::tempdir().expect("there is room for temporary files");
        let (models, own) = (folder(), folder());
        let [port] = ports::free();
        let address = format!("127.0.0.1:{port}");
        let at = |name: &str| own.path().join(name);
        let mut args: Vec<OsString> = vec!["--exit-with-parent".into()];
        for (flag, value) in [
            ("--bind", OsString::from(&address)),
            ("--address-file", at("address").into()),
            ("--cache-dir", at("cache").into()),
            ("--file-root", models.path().into()),
        ] {
            args.extend([flag.into(), value]);
        }
        args.extend(flags.iter().map(Into::into));
        let spec = ChildSpec {
            name: "backend".to_owned(),
            program: binaries().worker,
            args,
            env: Vec::new(),
            settings: &[],
            log: at("log"),
            address_file: at("address"),
        };
        let child = Mutex::new(start(&spec).await);
        Self { spec, child, url: format!("http://{address}"), models, _folder: own }
    }

    /// The flags of an agent before it.
    pub fn flags(&self) -> [String; 4] {
        let models = self.models.path().display().to_string();
        ["--backend".to_owned(), self.url.clone(), "--backend-models".to_owned(), models]
    }

    /// The names of the models that it has.
    pub async fn listed(&self) -> Vec<String> {
        let asked = reqwest::get(format!("{}/models", self.url)).await;
        let list: Value = asked.expect("it answers").json().await.expect("it lists its models");
        let models = list["models"].as_array().expect("a list").iter();
        models.map(|it| it["modelName"].as_str().expect("a name").to_owned()).collect()
    }

    /// The names of the models that lie unpacked for it.
    pub fn laid_out(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.models.path()).expect("the folder is there");
        let folders = entries.flatten().filter(|it| it.path().is_dir());
        folders.map(|it| it.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Kills it without warning (SIGKILL).
    pub async fn kill(&self) {
        self.child.lock().await.kill().await;
    }

    /// Starts it again, without its models.
    pub async fn restart(&self) {
        self.kill().await;
        *self.child.lock().await = start(&self.spec).await;
    }

    /// Stops it where it is, with all that it holds (SIGSTOP).
    pub async fn freeze(&self) {
        processes::freeze(self.child.lock().await.pid().expect("it runs"));
    }

    /// Lets it go on (SIGCONT).
    pub async fn thaw(&self) {
        processes::thaw(self.child.lock().await.pid().expect("it runs"));
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        read(&self.spec.log)
    }
}

async fn start(spec: &ChildSpec) -> Child {
    let mut child = Child::start(spec).unwrap_or_else(|error| panic!("{error}"));
    child.address().await.unwrap_or_else(|error| panic!("{error}"));
    child
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
