//! The router's HTTP face, before scripted instances that answer, die, stall or lie.

mod instance;
mod router;
mod requests;
mod bodies;
mod retries;
mod answers;
mod membership;
mod process;
mod signing;
mod access;
mod tls;
