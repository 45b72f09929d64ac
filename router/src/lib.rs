//! Routes `SageMaker` invocations to a cluster of workers.
//!
//! The modules in the order of an invocation:
//!
//! 1. [`http`] takes the request: [`http::invocations`] parses it, [`body`] reads it;
//! 2. [`dispatch`] is the life of one invocation, and all of its waiting;
//! 3. [`actors::endpoints`] picks the variant;
//! 4. [`actors::placement`] picks the instance in its [`group`], by [`policy::ring`];
//! 5. [`instance_client`] sends it; [`http::answer`] passes the answer back.
//!
//! Before them, [`http::front`] tells what is not for us: S3 requests go on to a local store
//! ([`store_client`]).
//!
//! Beside them: [`actors::membership`] knows which instances are in service, and makes each
//! [`instance`]; [`auth`] says who sent a request; [`app`] builds all parts from [`config`] and runs
//! them.

pub mod app;
pub mod http;
pub mod body;
pub mod dispatch;
pub mod actors;
pub mod control;
pub mod records;
pub mod cluster;
pub mod policy;
pub mod group;
pub mod instance_client;
pub mod instance;
pub mod store_client;
pub mod objects;
pub mod async_invocations;
pub mod access;
pub mod auth;
pub mod tls;
pub mod headers;
pub mod sockets;
pub mod config;
pub mod metrics;
