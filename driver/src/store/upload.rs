//! The body of an upload on its way to disk: framing off, bounds kept, checksums checked.
//!
//! s3s-fs replaces the object first and compares checksums afterwards. Here the comparison comes
//! before the end of the stream, so that a damaged upload never becomes an object.

use super::{
    MAX_OBJECT_BYTES,
    chunked::{ChunkedError, Decoder},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::poll_fn};
use hyper::HeaderMap;
use s3s::{
    S3Error, S3Result,
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256},
    dto::{Checksum, StreamingBlob},
    s3_error,
};
use std::{fmt::Write as _, io, time::Duration};
use tokio::{sync::mpsc, time::timeout};

/// Silence after which an upload is given up, as S3 does after about 20 s (`RequestTimeout`). More
/// patience here, because a busy laptop may well pause.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Pieces between the network and the disk: enough to overlap them, little enough to hold.
const MAX_PIECES: usize = 8;

/// The checksums that S3 knows, by header or trailer.
const CHECKSUMS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-crc64nvme",
];

pub(super) type Pieces = mpsc::Sender<Result<Bytes, io::Error>>;

/// Why an upload did not come whole.
#[derive(Debug)]
pub(super) enum Broken {
    Refused(S3Error),
    /// Who should have written it gave up, and knows why.
    WriterGone,
}

impl Broken {
    /// Ends the stream with an error.
    pub(super) async fn refuse(error: S3Error, pieces: &Pieces) -> Self {
        // The writer must not take what came for the whole. If it is gone, it does not.
        let _ = pieces.send(Err(io::Error::other(error.to_string()))).await;
        Self::Refused(error)
    }
}

/// What a request says about its body.
#[derive(Debug)]
pub(super) struct Upload {
    /// The length that the body must have, if it is framed.
    framed_len: Option<u64>,
    /// Name and, unless it comes in a trailer, value.
    checksums: Vec<(&'static str, Option<String>)>,
    content_md5: Option<String>,
    /// The payload's digest in hexadecimal, as the signature covers it.
    content_sha256: Option<String>,
}

impl Upload {
    pub(super) fn of(headers: &HeaderMap) -> S3Result<Self> {
        let text =
            |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).map(str::to_owned);
        let sha256 = text("x-amz-content-sha256").unwrap_or_default();
        let framed_len = if sha256.starts_with("STREAMING-") {
            let len = text("x-amz-decoded-content-length").and_then(|len| len.parse().ok());
            Some(len.ok_or_else(|| s3_error!(MissingContentLength))?)
        } else {
            None
        };
        let announced = text("x-amz-trailer").unwrap_or_default().to_ascii_lowercase();
        let is_announced = |name: &str| announced.split(',').any(|it| it.trim() == name);
        let checksums = CHECKSUMS.into_iter().filter_map(|name| {
            let value = text(name);
            (value.is_some() || is_announced(name)).then_some((name, value))
        });
        let content_len: Option<u64> = text("content-length").and_then(|len| len.parse().ok());
        if framed_len.or(content_len).is_some_and(|len| len > MAX_OBJECT_BYTES) {
            return Err(s3_error!(EntityTooLarge));
        }
        Ok(Self {
            framed_len,
            checksums: checksums.collect(),
            content_md5: text("content-md5"),
            content_sha256: (sha256.len() == 64).then_some(sha256),
        })
    }

    /// Returns a stream that ends well only when the sender is dropped.
    pub(super) fn channel() -> (Pieces, StreamingBlob) {
        let (tx, mut rx) = mpsc::channel(MAX_PIECES);
        (tx, StreamingBlob::wrap(poll_fn(move |cx| rx.poll_recv(cx))))
    }

    /// Sends the whole body. A body that is not as it should be ends the stream with an error.
    pub(super) async fn pump(self, body: StreamingBlob, pieces: &Pieces) -> Result<(), Broken> {
        match self.send_all(body, pieces).await {
            Err(Broken::Refused(error)) => Err(Broken::refuse(error, pieces).await),
            outcome => outcome,
        }
    }

    async fn send_all(self, mut body: StreamingBlob, pieces: &Pieces) -> Result<(), Broken> {
        let mut digest = Digest::new(&self);
        let mut decoder = self.framed_len.map(|_| Decoder::default());
        let mut data = Vec::new();
        while let Some(bytes) = next(&mut body).await? {
            match &mut decoder {
                Some(decoder) => decoder.push(&bytes, &mut data)?,
                None => data.push(bytes),
            }
            for piece in data.drain(..) {
                digest.update(&piece)?;
                pieces.send(Ok(piece)).await.map_err(|_| Broken::WriterGone)?;
            }
        }
        let trailers = decoder.map(Decoder::finish).transpose()?.unwrap_or_default();
        digest.check(&self, &trailers)?;
        Ok(())
    }
}

async fn next(body: &mut StreamingBlob) -> S3Result<Option<Bytes>> {
    let next = timeout(IDLE_TIMEOUT, body.next()).await;
    let next = next.map_err(|_| s3_error!(RequestTimeout))?;
    next.transpose().map_err(|error| s3_error!(IncompleteBody, "the body broke off: {error}"))
}

/// Every digest that the request gives, computed on the way.
struct Digest {
    n_bytes: u64,
    checksums: ChecksumHasher,
    md5: Option<Md5>,
    sha256: Option<Sha256>,
}

impl Digest {
    fn new(upload: &Upload) -> Self {
        let mut checksums = ChecksumHasher::default();
        for (name, _) in &upload.checksums {
            match *name {
                "x-amz-checksum-crc32" => checksums.crc32 = Some(Crc32::new()),
                "x-amz-checksum-crc32c" => checksums.crc32c = Some(Crc32c::new()),
                "x-amz-checksum-sha1" => checksums.sha1 = Some(Sha1::new()),
                "x-amz-checksum-sha256" => checksums.sha256 = Some(Sha256::new()),
                _ => checksums.crc64nvme = Some(Crc64Nvme::new()),
            }
        }
        Self {
            n_bytes: 0,
            checksums,
            md5: upload.content_md5.is_some().then(Md5::new),
            sha256: upload.content_sha256.is_some().then(Sha256::new),
        }
    }

    fn update(&mut self, piece: &[u8]) -> S3Result<()> {
        self.n_bytes += piece.len() as u64;
        if self.n_bytes > MAX_OBJECT_BYTES {
            return Err(s3_error!(EntityTooLarge));
        }
        self.checksums.update(piece);
        if let Some(md5) = &mut self.md5 {
            md5.update(piece);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(piece);
        }
        Ok(())
    }

    fn check(self, upload: &Upload, trailers: &[(String, String)]) -> S3Result<()> {
        if upload.framed_len.is_some_and(|len| len != self.n_bytes) {
            return Err(s3_error!(IncompleteBody));
        }
        let sums = self.checksums.finalize();
        for (name, value) in &upload.checksums {
            let trailer = trailers.iter().find(|(trailer, _)| trailer == name);
            let expected = value.as_deref().or(trailer.map(|(_, value)| value.as_str()));
            if expected != named(&sums, name) {
                return Err(s3_error!(BadDigest, "{name} does not match the body"));
            }
        }
        let md5 = self.md5.map(|md5| base64_simd::STANDARD.encode_to_string(md5.finalize()));
        if md5 != upload.content_md5 {
            return Err(s3_error!(BadDigest));
        }
        let sha256 = self.sha256.map(|sha256| hex(&sha256.finalize()));
        if sha256 != upload.content_sha256 {
            return Err(s3_error!(BadDigest, "x-amz-content-sha256 does not match the body"));
        }
        Ok(())
    }
}

fn named<'a>(sums: &'a Checksum, name: &str) -> Option<&'a str> {
    let sum = match name {
        "x-amz-checksum-crc32" => &sums.checksum_crc32,
        "x-amz-checksum-crc32c" => &sums.checksum_crc32c,
        "x-amz-checksum-sha1" => &sums.checksum_sha1,
        "x-amz-checksum-sha256" => &sums.checksum_sha256,
        _ => &sums.checksum_crc64nvme,
    };
    sum.as_deref()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl From<S3Error> for Broken {
    fn from(error: S3Error) -> Self {
        Self::Refused(error)
    }
}

impl From<ChunkedError> for Broken {
    fn from(error: ChunkedError) -> Self {
        Self::Refused(s3_error!(IncompleteBody, "{error}"))
    }
}
