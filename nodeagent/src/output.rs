//! A run's output: the first MiB to a file, the last lines in memory, the rest only counted.
//!
//! The file is for a person on the node; the tail goes into the report. A script that writes
//! without end costs neither memory nor disk.
//!
//! Never here: what the output means (`messages.rs`).

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use straas_schemas::report::OUTPUT_TAIL_BYTES_MAX;

/// Most bytes of one run's output kept on the disk.
pub const SPOOL_BYTES_MAX: u64 = 1 << 20;

/// Takes the output of one run.
#[derive(Debug)]
pub struct Output {
    spool: Option<File>,
    tail: Vec<u8>,
    bytes: u64,
}

impl Output {
    /// Writes to `path`, replacing what is there. A disk that does not take it costs the file, not
    /// the run.
    #[must_use]
    pub fn to(path: &Path) -> Self {
        let spool = File::create(path)
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "output cannot be kept on the disk"))
            .ok();
        Self { spool, tail: Vec::new(), bytes: 0 }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let room = usize::try_from(SPOOL_BYTES_MAX.saturating_sub(self.bytes)).unwrap_or(0);
        if let Some(file) = self.spool.as_mut().filter(|_| room > 0)
            && file.write_all(&bytes[..bytes.len().min(room)]).is_err()
        {
            self.spool = None;
        }
        self.bytes += bytes.len() as u64;
        let keep = &bytes[bytes.len().saturating_sub(OUTPUT_TAIL_BYTES_MAX)..];
        self.tail.extend_from_slice(keep);
        // twice the size before moving anything: each byte is moved once on average
        if self.tail.len() > 2 * OUTPUT_TAIL_BYTES_MAX {
            self.tail.drain(..self.tail.len() - OUTPUT_TAIL_BYTES_MAX);
        }
    }

    /// Bytes in all.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last lines as text, at most [`OUTPUT_TAIL_BYTES_MAX`] bytes of it.
    #[must_use]
    pub fn tail(&self) -> String {
        let mut bytes = &self.tail[self.tail.len().saturating_sub(OUTPUT_TAIL_BYTES_MAX)..];
        loop {
            let text = String::from_utf8_lossy(bytes).into_owned();
            // each broken byte becomes three
            if text.len() <= OUTPUT_TAIL_BYTES_MAX {
                return text;
            }
            bytes = &bytes[(text.len() - OUTPUT_TAIL_BYTES_MAX).div_ceil(3).min(bytes.len())..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_tail_are_bounded_and_everything_is_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let mut output = Output::to(&path);
        for n in 0..300_000 {
            output.feed(format!("line {n}\n").as_bytes());
        }
        output.feed(&[0xff; 100]);
        assert!(output.bytes() > 2 * SPOOL_BYTES_MAX);
        assert_eq!(std::fs::metadata(&path).expect("a file").len(), SPOOL_BYTES_MAX);
        assert!(output.tail().len() <= OUTPUT_TAIL_BYTES_MAX);
        assert!(output.tail().contains("line 299999\n"));
        output.feed(&[0xff; 2 * OUTPUT_TAIL_BYTES_MAX]);
        assert!(output.tail().len() <= OUTPUT_TAIL_BYTES_MAX);
    }
}
