//! `manifold load`: sends invocations as a plan says, and tells what became of each of them.
//!
//! Read `plan` first, then `runner`. A library too: tests start a [`Load`] beside what they break.

pub mod command;
pub mod flags;
mod targets;
pub mod plan;
pub mod trace;
pub mod popularity;
pub mod schedule;
mod alarm;
mod files;
mod runner;
mod requests;
mod connections;
pub mod outcome;
mod record;
pub mod progress;
pub mod result;
mod summary;
mod table;
pub mod compare;
pub mod report;

pub use plan::{Arrivals, Check, Cold, Input, Pace, Plan, Popularity};
pub use result::LoadResult;
pub use runner::{Load, LoadError, run};
