//! Models that bring `requirements.txt`, installed by the real pip.

use super::*;
use std::io::Write as _;
use zip::{ZipWriter, write::SimpleFileOptions};

const WHEEL: &str = "own_library-1.0-py3-none-any.whl";

const USES_LIBRARY: &str = "
import own_library, sys
def handle(data, context):
    if data is not None:
        return [own_library.SAYS + ' ' + sys.executable]
";

/// A model with a library beside its requirements.
fn fixture(requirements: &str, is_allowed: bool) -> Fixture {
    let fixture = Fixture::new(USES_LIBRARY, |config| config.installs_requirements = is_allowed);
    let model = fixture.folder.path().join("model");
    fs::write(model.join("requirements.txt"), requirements).unwrap();
    let mut wheel = ZipWriter::new(fs::File::create(model.join(WHEEL)).unwrap());
    for (name, text) in [
        ("own_library.py", "SAYS = 'installed'\n"),
        (
            "own_library-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: own-library\nVersion: 1.0\n",
        ),
        (
            "own_library-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        ("own_library-1.0.dist-info/RECORD", ""),
    ] {
        wheel.start_file(name, SimpleFileOptions::default()).unwrap();
        wheel.write_all(text.as_bytes()).unwrap();
    }
    wheel.finish().unwrap();
    fixture
}

#[tokio::test]
async fn what_a_model_requires_is_installed_once_for_all_its_loads() {
    let fixture = fixture(&format!("./{WHEEL}\n"), true);
    let environments = fixture.folder.path().join("environments");
    let (one, two) = tokio::join!(fixture.load(), fixture.load());
    let (one, two) = (text(&one.unwrap(), "").await, text(&two.unwrap(), "").await);
    assert!(one.starts_with(&format!("installed {}", environments.display())), "{one}");
    assert_eq!(one, two);
    assert_eq!(fs::read_dir(&environments).unwrap().count(), 1);

    // Another worker in the same folder finds it. The library is no longer beside the requirements.
    fs::remove_file(fixture.folder.path().join("model").join(WHEEL)).unwrap();
    let config = fixture.handlers.config().clone();
    let handlers = Handlers::start(config, fixture.folder.path(), HandlerMetrics::default());
    let again = Fixture { handlers: handlers.unwrap(), ..fixture };
    assert_eq!(text(&again.load().await.unwrap(), "").await, one);
}

#[tokio::test]
async fn nothing_is_installed_unless_the_worker_allows_it() {
    let fixture = fixture(&format!("./{WHEEL}\n"), false);
    let error = fixture.failure().await.to_string();
    assert!(error.contains("No module named 'own_library'"), "{error}");
}

#[tokio::test]
async fn requirements_that_cannot_be_installed_fail_the_load_with_what_pip_says() {
    let fixture = fixture("./absent.whl\n", true);
    let error = fixture.failure().await.to_string();
    assert!(
        error.contains("requirements cannot be installed") && error.contains("absent.whl"),
        "{error}"
    );
    // Mended, it loads.
    fs::write(fixture.folder.path().join("model/requirements.txt"), format!("./{WHEEL}\n"))
        .unwrap();
    fixture.load().await.unwrap();
}
