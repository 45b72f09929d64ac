//! A whole worker over HTTP: SageMaker's container contract, invocations by address, and what routers
//! and launchers ask besides.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests too: a panic fails the test, and says where"
)]

mod worker;
mod contract;
mod mended;
mod mms;
mod operator;
mod pages;
