//! The supervision tree: who owns what, who tells whom.
//!
//! ```text
//! Instance ──┬── ModelCache ──┬── Replica (one per resident model)
//!            │      │ asks    ├── Replica
//!            │      ▼         └── …
//!            ├── Fetcher
//!            ├── Evictor   tells ModelCache: budget changed, shed so much
//!            └── Heartbeat asks nobody: reads what ModelCache publishes, tells the routers
//! ```
//!
//! ractor fits a worker: it is a nursery, an actor per loaded model, born at a load and dead at an
//! eviction, that may fail alone (docs/adr/0001-two-actor-frameworks.md).

pub mod instance;
pub mod model_cache;
pub mod fetcher;
pub mod replica;
pub mod evictor;
pub mod heartbeat;
