//! A task that ends with its owner, who can see whether it still runs.

use tokio::task::JoinHandle;

/// Something that runs beside its owner. Dropped, it is aborted: a bare handle would let it go on.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    /// Starts a task on this runtime.
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// Takes a task that was started.
    pub fn of(handle: JoinHandle<()>) -> Self {
        Self(handle)
    }

    /// Whether it goes on: it has neither ended nor panicked.
    pub fn is_alive(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_task_ends_with_its_owner() {
        let (held, is_dropped) = oneshot::channel::<()>();
        let task = Task::spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(task.is_alive());
        drop(task);
        assert!(is_dropped.await.is_err());
    }

    #[tokio::test]
    async fn a_task_that_panics_is_no_longer_alive() {
        let (cause, heard) = oneshot::channel::<()>();
        let task = Task::spawn(async move { heard.await.expect("nobody says so") });
        drop(cause);
        while task.is_alive() {
            tokio::task::yield_now().await;
        }
    }
}
