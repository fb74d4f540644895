//! What a request carries: nothing, a document, or a file that is read while it is sent.
//!
//! A jar of hundreds of MiB never stands in memory. Its hash goes ahead of it, so that the controller
//! can tell a file that was damaged or changed on its way.

use crate::error::CliError;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

/// So much of a file is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// The content of a request.
pub enum Content {
    /// A document; nothing if it is empty.
    Document(Bytes),
    /// The rest of a file.
    File {
        /// Read as far as it was sent.
        file: File,
        /// Bytes to send still.
        left: u64,
    },
}

/// A file to send.
pub struct Upload {
    /// Its bytes.
    pub content: Content,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Its size.
    pub size: u64,
}

impl Upload {
    /// Opens a file and takes its hash.
    pub fn of(path: &Path) -> Result<Self, CliError> {
        let cannot = |error: std::io::Error| CliError::Local(format!("cannot read {}: {error}", path.display()));
        let mut file = File::open(path).map_err(cannot)?;
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(CliError::Input(format!("{} is not a file", path.display())));
        }
        let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; PIECE_BYTES]);
        loop {
            match file.read(&mut piece).map_err(cannot)? {
                0 => break,
                read => {
                    hash.update(&piece[..read]);
                    size += read as u64;
                }
            }
        }
        file.rewind().map_err(cannot)?;
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { content: Content::File { file, left: size }, sha256, size })
    }
}

impl Upload {
    /// Leaves out the first bytes, which are there already.
    pub fn skip(&mut self, bytes: u64) -> Result<(), CliError> {
        if let Content::File { file, left } = &mut self.content {
            let at = file.seek(SeekFrom::Start(bytes));
            at.map_err(|error| CliError::Local(format!("cannot read the file from byte {bytes} on: {error}")))?;
            *left = self.size.saturating_sub(bytes);
        }
        Ok(())
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(match &mut *self {
            Self::Document(bytes) if bytes.is_empty() => None,
            Self::Document(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Self::File { left: 0, .. } => None,
            Self::File { file, left } => {
                let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(*left).unwrap_or(PIECE_BYTES))];
                // nothing else goes on in this program meanwhile
                match file.read_exact(&mut piece) {
                    Ok(()) => {
                        *left -= piece.len() as u64;
                        Some(Ok(Frame::data(piece.into())))
                    }
                    Err(error) => Some(Err(error)),
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Document(bytes) => bytes.is_empty(),
            Self::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Document(bytes) => bytes.len() as u64,
            Self::File { left, .. } => *left,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_file_is_sent_whole_with_its_hash_ahead() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.jar");
        let bytes: Vec<u8> = (0..PIECE_BYTES * 2 + 77).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).expect("written");
        let upload = Upload::of(&path).expect("opened");
        assert_eq!((upload.size, upload.sha256.as_str()), (bytes.len() as u64, sha256(&bytes).as_str()));
        assert_eq!(upload.content.collect().await.expect("sent").to_bytes(), bytes);
        assert!(Upload::of(dir.path()).is_err(), "a folder");
        // a file that shrinks meanwhile breaks the request off
        let upload = Upload::of(&path).expect("opened");
        std::fs::write(&path, b"short").expect("written");
        assert!(upload.content.collect().await.is_err());
    }

    fn sha256(bytes: &[u8]) -> String {
        straas_schemas::Digest::sha256(bytes).0
    }
}
