//! The router's HTTP face, before scripted instances that answer, die, stall or lie.

mod instance;
mod response_stream;
mod router;
mod store;
mod requests;
mod bodies;
mod connections;
mod retries;
mod answers;
mod async_invocations;
mod membership;
mod handover;
mod process;
mod signing;
mod access;
mod trust;
mod tls;
