use super::{job::tests::job, *};
use crate::records::{Records, database::DatabaseRecords};

fn log(folder: &tempfile::TempDir) -> JobLog {
    let records = DatabaseRecords::open(&folder.path().join("records.redb")).unwrap();
    JobLog::new(Arc::new(records) as Arc<dyn Records>, None)
}

async fn ids(log: &JobLog) -> Vec<String> {
    log.left_over().await.unwrap().into_iter().map(|job| job.head.id).collect()
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_restart_until_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (jobs, queue) = AsyncInvocations::open(log(&folder), 2).await.unwrap();
    jobs.accept(job("a", b"1,2")).await.unwrap();
    jobs.accept(job("b", b"")).await.unwrap();
    // A process that is killed tells nobody.
    drop((jobs, queue));

    let (jobs, mut queue) = AsyncInvocations::open(log(&folder), 2).await.unwrap();
    assert_eq!(queue.n_left_over(), 2);
    let refused = jobs.accept(job("c", b"")).await.unwrap_err();
    assert!(matches!(refused, AcceptError::Full), "what is left over has its places");
    let first = queue.next().await.unwrap();
    assert_eq!(first.job, job("a", b"1,2"));
    assert_eq!(queue.next().await.unwrap().job.head.id, "b");
    queue.log().finish("a").await.unwrap();
    let ids = ids(&queue.log()).await;
    assert_eq!(ids, ["b"]);
}

#[tokio::test]
async fn a_job_accepted_after_the_start_is_not_left_over_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let (jobs, mut queue) = AsyncInvocations::open(log(&folder), 2).await.unwrap();
    jobs.accept(job("a", b"")).await.unwrap();
    assert_eq!(queue.next().await.unwrap().job.head.id, "a");
    let mut again = std::pin::pin!(queue.next());
    assert!(futures_util::poll!(again.as_mut()).is_pending(), "one job is done once");
}

#[tokio::test]
async fn a_job_that_its_client_was_refused_is_not_done_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(&folder);
    let (jobs, queue) = AsyncInvocations::open(log.clone(), 2).await.unwrap();
    // The runner has died.
    drop(queue);
    let refused = jobs.accept(job("a", b"")).await.unwrap_err();
    assert!(matches!(refused, AcceptError::Stopping));
    assert!(ids(&log).await.is_empty());
}

#[tokio::test]
async fn a_full_queue_takes_no_more_until_a_job_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (jobs, mut queue) = AsyncInvocations::open(log(&folder), 1).await.unwrap();
    jobs.accept(job("a", b"")).await.unwrap();
    let refused = jobs.accept(job("b", b"")).await.unwrap_err();
    assert!(matches!(refused, AcceptError::Full));
    let accepted = queue.next().await.unwrap();
    assert!(jobs.accept(job("b", b"")).await.is_err(), "it is not done yet");
    drop(accepted);
    jobs.accept(job("b", b"")).await.unwrap();
}

#[tokio::test]
async fn a_job_that_cannot_be_read_keeps_no_other_from_being_done() {
    let folder = tempfile::tempdir().unwrap();
    let records = DatabaseRecords::open(&folder.path().join("records.redb")).unwrap();
    let garbage = crate::records::Write {
        table: crate::records::Table::AsyncInvocations,
        key: "0".to_owned(),
        value: Some(b"not JSON".to_vec()),
    };
    records.commit(&[garbage]).unwrap();
    let log = JobLog::new(Arc::new(records), None);
    log.add(&job("a", b"")).await.unwrap();
    assert_eq!(log.left_over().await.unwrap().len(), 1);
}
