//! The wire between router and worker: HTTP with these headers and bodies.

pub mod invocation;
pub mod membership;
pub mod endpoints;
pub mod fleets;
pub mod error;
pub mod residents;
