//! One model kept busy in the background, with every answer.

use crate::client::{Client, TestAnswer};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use tokio::task::JoinSet;

/// Clients that ask one model again as soon as they are answered.
#[derive(Debug)]
pub struct BusyModel {
    clients: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    answers: Mutex<Vec<TestAnswer>>,
    is_over: AtomicBool,
}

impl BusyModel {
    /// Starts `n_clients`. No answer at all fails the test.
    pub fn keep(client: &Client, model: &str, body: &'static [u8], n_clients: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        for _ in 0..n_clients {
            let (client, model, shared) = (client.clone(), model.to_owned(), Arc::clone(&shared));
            clients.spawn(async move {
                while !shared.is_over.load(Ordering::Relaxed) {
                    let answer = client.invoke(&model, body).await;
                    shared.answers.lock().expect("nobody panics with the lock").push(answer);
                }
            });
        }
        Self { clients, shared }
    }

    /// Returns the answers so far.
    pub fn answers(&self) -> Vec<TestAnswer> {
        self.shared.answers.lock().expect("nobody panics with the lock").clone()
    }

    /// Ends it and returns all answers.
    pub async fn end(self) -> Vec<TestAnswer> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        let answers = &self.shared.answers;
        std::mem::take(&mut *answers.lock().expect("nobody panics with the lock"))
    }
}
