//! A steady load of invocations in the background, and every one of them accounted for.

use crate::client::Client;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::task::JoinSet;

/// Clients that each invoke one model after the other, as fast as they are answered.
#[derive(Debug)]
pub struct SteadyLoad {
    clients: JoinSet<Vec<String>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    n_answered: AtomicUsize,
    is_over: AtomicBool,
}

impl SteadyLoad {
    /// Starts `n_clients`. Each model must answer with its input.
    pub fn start(client: &Client, models: &[String], n_clients: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        for client_idx in 0..n_clients {
            let (client, models, shared) = (client.clone(), models.to_vec(), Arc::clone(&shared));
            clients.spawn(async move {
                let mut failures = Vec::new();
                // Each begins elsewhere, so that all models are asked at all times.
                for model in models.iter().cycle().skip(client_idx) {
                    if shared.is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    failures.extend(failure(&client, model).await);
                    shared.n_answered.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        Self { clients, shared }
    }

    /// Returns how many invocations have ended, well or not.
    pub fn n_answered(&self) -> usize {
        self.shared.n_answered.load(Ordering::Relaxed)
    }

    /// Ends the load and returns every failed invocation in words.
    pub async fn end(self) -> Vec<String> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.concat()
    }
}

async fn failure(client: &Client, model: &str) -> Option<String> {
    const BODY: &[u8] = b"steady";
    match client.try_invoke(model, BODY).await {
        Ok(answer) if answer.status == 200 && answer.body.as_ref() == BODY => None,
        Ok(answer) => Some(format!("{model}: {} {}", answer.status, answer.text())),
        Err(error) => Some(format!("{model}: {}", shared::telemetry::Chain(&error))),
    }
}
