//! The embedded S3 store: the local catalogue of models, for whoever reaches it.
//!
//! It is `s3s` in front of `s3s-fs`, with `local::LocalStore` between them to close the gaps that
//! a stock client or the worker's cache would fall into. It asks for no credentials: it trusts the
//! machine, and so it listens beyond loopback only where it is told that strangers do not get there.

mod chunked;
mod conditions;
mod http;
mod local;
mod names;
mod regions;
mod upload;

pub(crate) use upload::hex;

use crate::cli::StoreArgs;
use s3s::{
    config::{S3Config, StaticConfigProvider},
    service::{S3Service, S3ServiceBuilder},
};
use shared::address_file;
use std::{io, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tracing::info;

/// S3's own bound for a single PUT (S3 user guide, "Uploading objects").
pub const MAX_OBJECT_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// The longest XML that a client has reason to send: `CompleteMultipartUpload` with 10,000 parts of
/// about 300 bytes each.
const MAX_XML_BYTES: usize = 4 * 1024 * 1024;

/// Browser forms are held in memory by s3s; nobody uploads models with them.
const MAX_FORM_BYTES: u64 = 1024 * 1024;

/// Why the store could not start.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the store trusts everyone who reaches it, so it does not listen on {0}, which is not \
         loopback, without --allow-unauthenticated"
    )]
    NotLoopback(SocketAddr),
    #[error("could not open the store's folder")]
    Root(#[source] s3s::S3Error),
    #[error("could not create the store's folder")]
    CreateRoot(#[source] io::Error),
    #[error("could not listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("could not write the address file")]
    AddressFile(#[source] io::Error),
    #[error("could not wait for signals")]
    Signals(#[source] io::Error),
}

/// Runs the store until SIGTERM or SIGINT.
pub async fn run(args: StoreArgs) -> Result<(), StoreError> {
    if !args.listen.ip().is_loopback() && !args.allow_unauthenticated {
        return Err(StoreError::NotLoopback(args.listen));
    }
    let service = build(&args)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|source| StoreError::Listen { address: args.listen, source })?;
    let address = listener
        .local_addr()
        .map_err(|source| StoreError::Listen { address: args.listen, source })?;
    if let Some(path) = &args.address_file {
        address_file::write(path, address).map_err(StoreError::AddressFile)?;
    }
    info!(%address, data = %args.data.display(), "store is listening");

    tokio::select! {
        () = http::serve(listener, service) => Ok(()),
        signal = shared::shutdown::requested() => {
            let signal = signal.map_err(StoreError::Signals)?;
            // Uploads in flight end with the process: s3s-fs writes beside and renames, so that a
            // reader never sees half of one.
            info!(signal, "store is stopping");
            Ok(())
        }
    }
}

fn build(args: &StoreArgs) -> Result<S3Service, StoreError> {
    std::fs::create_dir_all(&args.data).map_err(StoreError::CreateRoot)?;
    let files =
        s3s_fs::FileSystem::new(&args.data).map_err(|error| StoreError::Root(error.into()))?;
    let root = args.data.canonicalize().map_err(StoreError::CreateRoot)?;

    let mut config = S3Config::default();
    config.xml_max_body_size = MAX_XML_BYTES;
    config.post_object_max_file_size = MAX_FORM_BYTES;
    let mut builder = S3ServiceBuilder::new(local::LocalStore::new(files, root));
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    Ok(builder.build())
}

#[cfg(test)]
mod tests;
