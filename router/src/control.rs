//! SageMaker's control plane: from the bytes of a request to a change of the catalog and an answer.
//!
//! Plain functions, in the order of a request: [`schema`] says what an input may hold and validates
//! it; [`operations`] decides what it does to the [`catalog`]; [`error`] has SageMaker's words for a
//! refusal. [`seed`] makes records of a file's endpoints. Who owns the catalog, and makes changes durable, is elsewhere. Nothing here waits.

pub mod schema;
pub mod operations;
pub mod catalog;
pub mod arn;
pub mod error;
pub mod seed;
pub mod fuzzing;

pub use operations::{Context, Outcome, Request, model_data_urls, operate};
