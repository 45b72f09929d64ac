//! Who owns what, and who tells whom.
//!
//! ```text
//!  http/instances ──asks──► Membership ──tells──► Placement
//!  dispatch ───────tells──►  (suspects)              │ publishes groups and their rings
//!                                                    ▼
//!  dispatch ◄───────────────reads────────────────────┴──► Deployments (what is in service)
//!
//!  http/control ───asks──► Endpoints ──publishes──► routes ──► http/invocations
//!                          (records)       │ and catalog
//!                              ▲           ▼
//!                              └─ steps ─ Deployments ◄──asks── http/fleets (a launcher)
//! ```
//!
//! Four actors, each one for the life of the process, own the truth. What invocations need of it
//! is published as an immutable snapshot: they take no lock and ask no actor. News go up, and no
//! actor ever waits for another.
//!
//! Why actix here and ractor in the worker: the router is a switchboard of few actors that answer
//! many small questions at once; the worker is a nursery of actors that are born and die alone.

pub mod endpoints;
pub mod placement;
pub mod membership;
pub mod deployments;

/// An actor that is asked did not answer: it is overloaded, has died, or the router is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is overloaded or stopping")]
pub struct Unavailable(&'static str);
