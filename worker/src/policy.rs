//! Decisions as plain functions: values in, values out, no actor, no clock, no I/O.

pub mod connections;
pub mod disk;
pub mod eviction;
pub mod budget;
pub mod freshness;
pub mod heat;
pub mod handover;
pub mod routers;
