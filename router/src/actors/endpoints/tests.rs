use super::*;
use crate::{
    control::catalog::EndpointStatus,
    records::{Write, alone::OwnLedger, database::DatabaseRecords},
};
use shared::api::endpoints::EndpointsFile;
use std::collections::BTreeSet;
use tempfile::TempDir;

fn parse(toml: &str) -> Vec<file::Endpoint> {
    toml::from_str::<EndpointsFile>(toml).unwrap().endpoints
}

fn endpoint(name: &str, variants: &[(&str, f64)]) -> String {
    let variants = variants.iter().map(|(name, weight)| {
        format!(
            "[[endpoint.variant]]\nname = \"{name}\"\nweight = {weight:?}\n\
             model_data_url = \"s3://bucket/{name}/\"\n"
        )
    });
    format!("[[endpoint]]\nname = \"{name}\"\n{}", variants.collect::<String>())
}

async fn start(folder: &TempDir) -> Endpoints {
    let records = DatabaseRecords::open(&folder.path().join("records.redb")).unwrap();
    let settings = Settings {
        account_id: "123456789012".to_owned(),
        region: "us-east-1".to_owned(),
        max_instances: 8,
        max_records: 100,
        launches_images: false,
    };
    let ledger = Arc::new(OwnLedger(Arc::new(records)));
    Endpoints::start(ledger, settings, EndpointMetrics::default()).await.unwrap()
}

async fn with(toml: &str) -> (Endpoints, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let endpoints = start(&folder).await;
    endpoints.seed(parse(toml)).await.unwrap();
    (endpoints, folder)
}

fn record(endpoints: &Endpoints) -> Arc<Endpoint> {
    Arc::clone(endpoints.catalog().endpoint("demo").unwrap())
}

#[actix::test]
async fn variants_are_picked_by_weight_unless_one_is_asked_for() {
    let toml = endpoint("demo", &[("a", 1.0), ("b", 1.0), ("never", 0.0)]);
    let (endpoints, _folder) = with(&toml).await;
    let demo = "demo".parse().unwrap();

    let picked: BTreeSet<String> =
        (0..200).map(|_| endpoints.pick_variant(&demo, None).unwrap().name.to_string()).collect();
    assert_eq!(picked, BTreeSet::from(["a".to_owned(), "b".to_owned()]));

    let asked = endpoints.pick_variant(&demo, Some(&"never".parse().unwrap())).unwrap();
    assert_eq!(asked.name.as_str(), "never");
}

#[actix::test]
async fn what_is_not_there_is_named() {
    let (endpoints, _folder) = with(&endpoint("demo", &[("a", 1.0)])).await;
    let (demo, other) = ("demo".parse().unwrap(), "other".parse().unwrap());
    let missing = "b".parse().unwrap();

    let error = endpoints.pick_variant(&other, None).unwrap_err();
    assert_eq!(error, PickError::UnknownEndpoint(other));
    let error = endpoints.pick_variant(&demo, Some(&missing)).unwrap_err();
    assert_eq!(error, PickError::UnknownVariant(demo, missing));
}

#[actix::test]
async fn an_endpoint_without_weight_serves_only_those_who_name_a_variant() {
    let (endpoints, _folder) = with(&endpoint("demo", &[("a", 0.0), ("b", 0.0)])).await;
    let demo: EndpointName = "demo".parse().unwrap();
    let error = endpoints.pick_variant(&demo, None).unwrap_err();
    assert_eq!(error, PickError::NoVariant(demo.clone()));
    assert!(endpoints.pick_variant(&demo, Some(&"b".parse().unwrap())).is_ok());
}

#[actix::test]
async fn what_was_there_stays_as_it_is_when_the_file_comes_again() {
    let (endpoints, _folder) = with(&endpoint("demo", &[("a", 1.0)])).await;
    let before = record(&endpoints);
    endpoints.seed(parse(&endpoint("demo", &[("b", 1.0)]))).await.unwrap();
    assert!(Arc::ptr_eq(&before, &record(&endpoints)));
}

#[actix::test]
async fn records_survive_a_restart() {
    let (endpoints, folder) = with(&endpoint("demo", &[("a", 1.0)])).await;
    let before = record(&endpoints);
    drop(endpoints);
    // The actor's thread ends once nobody can ask it, and then the file is free.
    let reopened = || DatabaseRecords::open(&folder.path().join("records.redb")).is_ok();
    crate::actors::membership::tests::eventually(reopened).await;
    let endpoints = start(&folder).await;
    assert_eq!(before, record(&endpoints));
    assert!(endpoints.pick_variant(&"demo".parse().unwrap(), None).is_ok());
}

#[actix::test]
async fn a_step_that_was_decided_on_an_older_record_is_not_taken() {
    let (endpoints, _folder) = with(&endpoint("demo", &[("a", 1.0)])).await;
    let old = record(&endpoints);
    assert!(endpoints.settle(old.clone(), Step::Fail("x".to_owned())).await.unwrap());
    assert!(!endpoints.settle(old, Step::Remove).await.unwrap());
    assert_eq!(record(&endpoints).failure_reason.as_deref(), Some("x"));
    assert_eq!(record(&endpoints).status, EndpointStatus::InService);
}

/// Records that fail, or kill their thread.
#[derive(Debug)]
enum Bad {
    Failing,
    Panicking,
}

impl Ledger for Bad {
    fn copy(&self) -> Result<Vec<Write>, RecordsError> {
        Ok(Vec::new())
    }

    fn refresh(&self) -> Result<Vec<Write>, RecordsError> {
        Ok(Vec::new())
    }

    fn commit(&self, _: &[Write]) -> Result<(), RecordsError> {
        match self {
            Self::Failing => Err(RecordsError::Storage(Arc::new(std::io::Error::other("full")))),
            Self::Panicking => panic!("a bug"),
        }
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

async fn over(records: Bad) -> Endpoints {
    let settings = Settings {
        account_id: "123456789012".to_owned(),
        region: "us-east-1".to_owned(),
        max_instances: 8,
        max_records: 100,
        launches_images: false,
    };
    Endpoints::start(Arc::new(records), settings, EndpointMetrics::default()).await.unwrap()
}

#[actix::test]
async fn a_change_that_cannot_be_written_is_none() {
    let endpoints = over(Bad::Failing).await;
    let error = endpoints.seed(parse(&endpoint("demo", &[("a", 1.0)]))).await.unwrap_err();
    assert!(matches!(error, OperateError::Records(_)), "{error}");
    assert!(endpoints.catalog().endpoints.is_empty() && endpoints.is_alive());
}

#[actix::test]
async fn the_death_of_the_actors_thread_is_noticed_without_asking_it_again() {
    let endpoints = over(Bad::Panicking).await;
    let error = endpoints.seed(parse(&endpoint("demo", &[("a", 1.0)]))).await.unwrap_err();
    assert!(matches!(error, OperateError::Unavailable(_)), "{error}");
    crate::actors::membership::tests::eventually(|| !endpoints.is_alive()).await;
}

#[actix::test]
async fn a_file_takes_no_name_from_a_client() {
    let (endpoints, _folder) = with(&endpoint("demo", &[("a", 1.0)])).await;
    assert!(endpoints.settle(record(&endpoints), Step::Remove).await.unwrap());
    let before = Arc::clone(endpoints.catalog().model("demo-a").unwrap());
    let other = endpoint("demo", &[("a", 1.0)]).replace("s3://bucket/", "s3://other/");
    endpoints.seed(parse(&other)).await.unwrap();
    assert!(Arc::ptr_eq(&before, endpoints.catalog().model("demo-a").unwrap()));
}

#[actix::test]
async fn an_endpoint_that_is_gone_is_unknown_to_invocations() {
    let (endpoints, _folder) = with(&endpoint("demo", &[("a", 1.0)])).await;
    let mut changes = endpoints.changes();
    assert!(endpoints.settle(record(&endpoints), Step::Remove).await.unwrap());
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(endpoints.catalog().endpoint("demo").is_none());
    assert!(endpoints.pick_variant(&"demo".parse().unwrap(), None).is_err());
}
