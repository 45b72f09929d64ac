//! One instance: fetches models, loads each into an actor of its own, serves and evicts them.
//!
//! The modules stand in the order in which an invocation passes them; `app` knows them all.

pub mod app;
pub mod config;
pub mod whereabouts;
pub mod http;
pub mod lifecycle;
pub mod router_client;
pub mod trust;
pub mod contract;
pub mod actors;
pub mod lease;
pub mod busy;
pub mod meter;
pub mod compute;
pub mod artifact;
pub mod runtime;
pub mod policy;
pub mod memory;
pub mod discovery;
pub mod metrics;
