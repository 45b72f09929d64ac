//! What router and worker must agree on: names, the wire between them, and process plumbing.
//!
//! Admission test for this crate: *both* sides need it *and* must agree on it, or it is plumbing
//! that every process needs. It knows no actor framework, no HTTP framework, no LibTorch, no S3.

pub mod id;
pub mod address;
pub mod address_file;
pub mod api;
pub mod backoff;
pub mod etcd;
pub mod metrics;
pub mod open_files;
pub mod own_address;
pub mod page;
pub mod peers;
pub mod private_file;
pub mod reload;
pub mod shutdown;
pub mod task;
pub mod telemetry;
pub mod token;
