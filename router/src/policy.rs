//! Decisions as plain functions: values in, values out, `now` as a parameter.

pub mod bodies;
pub mod weighted;
pub mod ring;
pub mod replicas;
pub mod replication;
pub mod choice;
pub mod retry;
pub mod roster;
pub mod jobs;
pub mod deployment;
pub mod environment;
pub mod share;
