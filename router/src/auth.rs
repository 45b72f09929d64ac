//! Who sent a request, and what they may do.
//!
//! [`scope`] reads what a request says of its signature, without believing it.

pub mod scope;
