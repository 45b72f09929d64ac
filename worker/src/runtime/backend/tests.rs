use super::*;
use crate::{artifact::disk_cache::ArtifactLease, meter::Meter, runtime::ModelInput};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::StatusCode, web};
use bytes::Bytes;
use shared::api::error::ErrorKind;
use std::{collections::HashMap, fs, net::TcpListener};
use tempfile::TempDir;
use tokio::time::Instant;

const MAX_ANSWER_BYTES: usize = 100;

/// What a server answers next to a call (`POST /models`), the names of models left out; for good once one
/// answer is left.
type Script = HashMap<&'static str, Vec<(u16, &'static str)>>;

/// A server that does as it is told, and notes what it is asked.
#[derive(Clone, Debug, Default)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    /// Calls, and the target models and bodies with them.
    heard: Arc<Mutex<Vec<(String, String, String)>>>,
}

impl Scripted {
    fn say(&self, call: &'static str, answers: &[(u16, &'static str)]) {
        self.script.lock().insert(call, answers.to_vec());
    }

    fn calls(&self) -> Vec<String> {
        self.heard.lock().iter().map(|(call, ..)| call.clone()).collect()
    }

    #[expect(clippy::unused_async, reason = "actix-web's handlers are")]
    async fn answer(request: HttpRequest, body: Bytes, this: web::Data<Self>) -> HttpResponse {
        let parts: Vec<_> = request.path().split('/').collect();
        let parts: Vec<_> =
            parts.into_iter().map(|it| if folder::is_ours(it) { "*" } else { it }).collect();
        let call = format!("{} {}", request.method(), parts.join("/"));
        let target = request.headers().get("x-amzn-sagemaker-target-model");
        let target = target.map_or("", |it| it.to_str().unwrap()).to_owned();
        let body = String::from_utf8(body.to_vec()).unwrap();
        this.heard.lock().push((call.clone(), target, body));
        let mut script = this.script.lock();
        let (status, body) = match script.get_mut(&*call) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0],
            None => (200, ""),
        };
        HttpResponse::build(StatusCode::from_u16(status).unwrap()).body(body)
    }
}

/// An agent before a scripted server.
struct Fixture {
    server: Scripted,
    backend: Backend,
    artifact: TempDir,
    models: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let server = Scripted::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = web::Data::new(server.clone());
        let app =
            move || App::new().app_data(state.clone()).default_service(web::to(Scripted::answer));
        tokio::spawn(
            HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run(),
        );
        let this = Self::at(&url);
        Self { server, ..this }
    }

    fn at(url: &str) -> Self {
        let (artifact, models) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::write(artifact.path().join("weights"), "1").unwrap();
        let config = BackendConfig {
            url: url.parse().unwrap(),
            models: models.path().to_owned(),
            sees: PathBuf::from("/opt/ml/models"),
            startup_timeout: Duration::from_secs(10),
            load_timeout: Duration::from_secs(10),
            max_answer_bytes: MAX_ANSWER_BYTES,
            max_queued: 1,
        };
        let backend = Backend::open(config).unwrap();
        Self { server: Scripted::default(), backend, artifact, models }
    }

    async fn load(&self) -> Result<Arc<dyn Outside>, RuntimeError> {
        let address = "s3://bucket/models/sub/own.tar.gz".parse().unwrap();
        let lease = ArtifactLease::in_place(self.artifact.path().to_owned());
        let artifact = Artifact { address, lease, meter: Arc::new(Meter::default()) };
        self.backend.start(artifact).await
    }

    async fn invoke(model: &Arc<dyn Outside>) -> Result<crate::runtime::ModelOutput, RuntimeError> {
        let input = ModelInput { body: Bytes::from_static(b"x"), ..ModelInput::default() };
        model.invoke(input, Instant::now()).await
    }

    fn n_laid_out(&self) -> usize {
        let entries = fs::read_dir(self.models.path()).unwrap().flatten();
        entries.filter(|it| it.path().is_dir()).count()
    }

    async fn all_gone(&self) {
        while self.n_laid_out() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_model_is_loaded_invoked_and_unloaded_as_the_platform_does() {
    let fixture = Fixture::new();
    fixture.server.say("POST /models/*/invoke", &[(200, "answer")]);
    let model = fixture.load().await.unwrap();
    assert_eq!(&*Fixture::invoke(&model).await.unwrap().body, b"answer");
    assert_eq!(fixture.n_laid_out(), 1);
    model.unload().await;
    drop(model);
    fixture.all_gone().await;

    assert_eq!(
        fixture.server.calls(),
        ["POST /models", "POST /models/*/invoke", "DELETE /models/*"]
    );
    let heard = fixture.server.heard.lock().clone();
    assert!(heard.iter().all(|(_, target, _)| target == "models/sub/own.tar.gz"), "{heard:?}");
    let body: serde_json::Value = serde_json::from_str(&heard[0].2).unwrap();
    let name = body["model_name"].as_str().unwrap();
    assert!(folder::is_ours(name), "{name}");
    assert_eq!(body["url"], format!("/opt/ml/models/{name}/model"));
}

#[tokio::test]
async fn what_is_left_of_a_name_is_unloaded_and_the_load_tried_again() {
    let fixture = Fixture::new();
    fixture.server.say("POST /models", &[(409, "there"), (200, "")]);
    fixture.load().await.unwrap();
    assert_eq!(fixture.server.calls(), ["POST /models", "DELETE /models/*", "POST /models"]);

    fixture.server.say("POST /models", &[(409, "there")]);
    assert_eq!(fixture.load().await.unwrap_err().kind(), ErrorKind::ModelFailed);
}

#[tokio::test]
async fn nothing_stays_of_a_load_that_was_refused() {
    let fixture = Fixture::new();
    for (status, kind) in [(507, ErrorKind::InsufficientMemory), (400, ErrorKind::ModelFailed)] {
        fixture.server.say("POST /models", &[(status, "no")]);
        let error = fixture.load().await.unwrap_err();
        assert_eq!((error.kind(), error.wants_room()), (kind, status == 507), "{error}");
        fixture.all_gone().await;
        assert_eq!(fixture.server.calls().last().unwrap(), "DELETE /models/*");
    }
    assert!(fixture.backend.parts.models.snapshot().is_empty());
}

#[tokio::test]
async fn a_model_that_is_lost_is_told_from_one_that_says_404_itself() {
    let fixture = Fixture::new();
    let model = fixture.load().await.unwrap();
    fixture.server.say("POST /models/*/invoke", &[(404, "no such customer")]);
    let own = Fixture::invoke(&model).await.unwrap_err();
    let expected = RuntimeError::Handler { status: 404, message: "no such customer".to_owned() };
    assert_eq!(own, expected);
    fixture.server.say("GET /models/*", &[(404, "")]);
    assert_eq!(Fixture::invoke(&model).await.unwrap_err(), BackendError::Lost.into());
}

#[tokio::test]
async fn an_answer_has_an_end() {
    let fixture = Fixture::new();
    let model = fixture.load().await.unwrap();
    fixture
        .server
        .say("POST /models/*/invoke", &[(200, include_str!("../../../assets/README.md"))]);
    let error = Fixture::invoke(&model).await.unwrap_err();
    assert_eq!(error, BackendError::TooLong(MAX_ANSWER_BYTES).into());
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_another_instance_s_turn() {
    let unbound = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fixture = Fixture::at(&format!("http://{unbound}"));
    let error = fixture.load().await.unwrap_err();
    assert!(error.kind().is_worth_another_instance(), "{error}");
    fixture.all_gone().await;
}

#[tokio::test]
async fn a_backend_is_up_when_it_answers_and_lists_and_what_nobody_uses_leaves() {
    let fixture = Fixture::new();
    let left = r#"{"models": [{"modelName": "manifold_0123456789abcdef0123456789abcdef"}, {"modelName": "own"}]}"#;
    fixture.server.say("GET /ping", &[(500, ""), (200, "")]);
    fixture.server.say("GET /models", &[(404, ""), (200, left)]);
    let mut vigil = fixture.backend.vigil();
    assert!(!fixture.backend.is_up());
    assert!(vigil.up().await.unwrap().is_empty());
    assert!(fixture.backend.is_up());
    let expected =
        ["GET /ping", "GET /ping", "GET /models", "GET /ping", "GET /models", "DELETE /models/*"];
    assert_eq!(fixture.server.calls(), expected);
}

#[tokio::test]
async fn what_the_backend_has_lost_is_told_and_what_it_has_or_is_on_its_way_is_not() {
    let fixture = Fixture::new();
    let _listed = fixture.load().await.unwrap();
    fixture.server.say("GET /models", &[(200, r#"{"models": [{}]}"#)]);
    let mut vigil = fixture.backend.vigil();
    assert!(vigil.up().await.unwrap().is_empty(), "it says 200 of the model itself");
    fixture.server.say("GET /models/*", &[(404, "")]);
    let lost = vigil.up().await.unwrap();
    assert_eq!(lost.len(), 1, "{lost:?}");
}

#[tokio::test]
async fn whoever_leaves_leaves_nothing() {
    let fixture = Fixture::new();
    let _model = fixture.load().await.unwrap();
    fixture.backend.leave(Duration::from_secs(5)).await;
    assert_eq!(fixture.server.calls(), ["POST /models", "DELETE /models/*"]);
    assert_eq!(fixture.n_laid_out(), 0);
}
