//! The body of an object: watched for stalls, and continued where it broke.
//!
//! What makes it whole: its length and, for each part of it, the `ETag`. The SDK compares the store's
//! checksum as well, but only of a body that came in one piece: a part has no checksum of its own.
//! What is unpacked has one inside nearly always (gzip, zstd and zip do, a plain tar does not).

use super::{ArtifactVersion, FetchError, S3Source};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use shared::{address::ArtifactAddress, backoff::Backoff, telemetry::Chain};
use std::{error::Error, io};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

/// An object on its way. It gives all announced bytes, or an error.
#[derive(Debug)]
pub(super) struct Body {
    source: S3Source,
    address: ArtifactAddress,
    version: ArtifactVersion,
    stream: ByteStream,
    offset: u64,
    /// Breaks so far, each followed by another GET.
    n_breaks: u32,
    deadline: Instant,
}

type Break = Box<dyn Error + Send + Sync>;

impl Body {
    pub(super) async fn open(
        source: S3Source,
        address: ArtifactAddress,
        version: ArtifactVersion,
    ) -> Result<Self, FetchError> {
        let object = source.get(&address, &version, 0).await?;
        let deadline = Instant::now() + source.patience.body_timeout(version.size_bytes);
        let stream = object.body;
        Ok(Self { source, address, version, stream, offset: 0, n_breaks: 0, deadline })
    }

    /// Returns the next bytes and what is left, as a stream's step.
    pub(super) async fn next_piece(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            match self.read_on().await {
                Ok(Some(piece)) => return Ok(Some((piece, self))),
                Ok(None) => return Ok(None),
                Err(error) => self.reopen(error).await.map_err(io::Error::other)?,
            }
        }
    }

    async fn read_on(&mut self) -> Result<Option<Bytes>, Break> {
        let until = self.deadline.min(Instant::now() + self.source.patience.idle_timeout);
        match timeout_at(until, self.stream.next()).await {
            Err(_) => Err("no byte came for too long".into()),
            Ok(Some(Err(error))) => Err(error.into()),
            Ok(Some(Ok(piece))) => {
                self.offset += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(None) if self.offset < self.version.size_bytes => Err("it ended early".into()),
            // Reading to here lets the SDK compare the store's checksum, if nothing broke before.
            Ok(None) => Ok(None),
        }
    }

    /// Goes on where the body broke, unless that has happened too often.
    async fn reopen(&mut self, error: Break) -> Result<(), FetchError> {
        let patience = self.source.patience;
        self.n_breaks += 1;
        let is_hopeless = self.n_breaks >= patience.max_attempts
            || Instant::now() >= self.deadline
            // All came, and yet it failed: it is not what the store's checksum says.
            || self.offset >= self.version.size_bytes;
        if is_hopeless {
            return Err(FetchError::unavailable(&self.address, error));
        }
        debug!(address = %self.address, offset = self.offset, error = %Chain(error.as_ref()), "body broke");
        let backoff = Backoff { base: patience.initial_backoff, max: patience.idle_timeout };
        sleep(backoff.delay(self.n_breaks - 1)).await;
        self.stream = self.source.get(&self.address, &self.version, self.offset).await?.body;
        Ok(())
    }
}
