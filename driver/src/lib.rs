//! The command-line tool: a local cluster, the demo, the load driver, the embedded store, models put
//! into any cluster.
//!
//! Read `up` first, then `cluster`, `supervise`, `child`: from the command to one process. A library
//! too, because the scenarios in `tests/` start and kill the same processes.

pub mod cli;
pub mod up;
pub mod demo;
pub mod invoke;
pub mod load;
pub mod publish;
pub mod zoo;
pub mod cluster;
pub mod endpoint;
pub mod processes;
pub mod supervise;
pub mod orders;
pub mod child;
pub mod signals;
pub mod share;
pub mod machine;
pub mod data;
pub mod binaries;
pub mod models;
pub mod client;
pub mod signing;
pub mod store;
pub mod console;
pub mod container;
mod log;
