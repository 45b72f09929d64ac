use super::{job::tests::job, *};
use crate::records::{Records, database::DatabaseRecords};

fn log(folder: &tempfile::TempDir) -> JobLog {
    let records = DatabaseRecords::open(&folder.path().join("records.redb")).unwrap();
    JobLog::new(Arc::new(records) as Arc<dyn Records>)
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_restart_until_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (jobs, queue) = AsyncInvocations::new(log(&folder), 2);
    jobs.accept(job("a", b"1,2")).await.unwrap();
    jobs.accept(job("b", b"")).await.unwrap();
    // A process that is killed tells nobody.
    drop((jobs, queue));

    let (_jobs, queue) = AsyncInvocations::new(log(&folder), 2);
    let left_over = queue.left_over().await.unwrap();
    let ids: Vec<_> = left_over.iter().map(|it| it.job.head.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(left_over[0].job, job("a", b"1,2"));
    queue.log().finish("a").await.unwrap();
    assert_eq!(queue.left_over().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_queue_takes_no_more_until_a_job_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (jobs, mut queue) = AsyncInvocations::new(log(&folder), 1);
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
    let log = JobLog::new(Arc::new(records));
    log.add(&job("a", b"")).await.unwrap();
    assert_eq!(log.all().await.unwrap().len(), 1);
}
