//! Why a router did not start, or ended.

use crate::{
    actors::endpoints::OperateError, config::InvalidConfig, records::RecordsError, tls::TlsError,
};
use std::{io, net::SocketAddr};

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("cannot put the endpoints of the file there")]
    Endpoints(#[from] OperateError),
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("cannot find out this machine's own address: name it with --advertise")]
    OwnAddress(#[source] io::Error),
}

impl BuildError {
    /// Whether starting again would not help.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Config(_) => true,
            Self::Records(error) => error.is_definite(),
            Self::Endpoints(_) | Self::Listen(..) | Self::OwnAddress(_) => false,
        }
    }
}

/// Why a router ended otherwise than it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot write the address file")]
    AddressFile(#[source] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("serving failed")]
    Serve(#[source] io::Error),
    #[error("an actor died")]
    ActorDied,
}
