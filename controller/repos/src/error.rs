//! What can go wrong with a repository, in the kinds a caller has to tell apart.
//!
//! One kind per answer a caller gives (not found, refused, lost a race, broken machine). `Display`
//! says what, where and what to do next; the source is left to whoever prints the chain. Never
//! carries the content of a file: values may be secret.

use std::fmt;

/// Result of every method of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A commit, branch or file that is not there.
    #[error("{what} does not exist; {next}")]
    NotFound {
        /// What was looked for.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// A name that may not be used, or files whose content is wrong. Never empty.
    #[error("{}", list(faults))]
    Invalid {
        /// Everything that was found, not only the first.
        faults: Vec<FileFault>,
    },
    /// Somebody else changed the ref first, or holds its lock. Nothing was changed.
    #[error("{what}; {next}")]
    Conflict {
        /// What was lost against whom.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// The upstream git server does not answer, or not as it should.
    #[error("{what}; {next}")]
    Away {
        /// Which upstream, since when, and why.
        what: String,
        /// What was changed, and what to do about it.
        next: String,
    },
    /// Upstream and we cannot come together: it has what is not taken, or refuses what is pushed.
    /// Nothing was changed.
    #[error("{what}; {next}")]
    Apart {
        /// What is in the way.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// Git refused or the repository is damaged.
    #[error("{doing} failed; if it happens again, run `git fsck --full` in that repository")]
    Git {
        /// What was being done, and where.
        doing: String,
        /// Git's own words.
        source: git2::Error,
    },
    /// The operating system refused.
    #[error("{doing} failed; check the disk, its free space and the permissions there")]
    Io {
        /// What was being done, and where.
        doing: String,
        /// The system's own words.
        source: std::io::Error,
    },
}

/// One fault in one file of a repository, or in a name (`file` is then what the name is for).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileFault {
    /// Path in the repository.
    pub file: String,
    /// Line in it, counted from 1, if known.
    pub line: Option<usize>,
    /// JSON Pointer in it; empty for the whole file.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.pointer.is_empty() {
            write!(f, " {}", self.pointer)?;
        }
        write!(f, ": {}", self.message)
    }
}

fn list(faults: &[FileFault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What a disk says when it takes no write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// No room left.
    Full,
    /// The file system is mounted read-only, as a failing disk makes it.
    ReadOnly,
}

impl Error {
    /// Whether it was the disk that took no write.
    #[must_use]
    pub fn disk(&self) -> Option<Disk> {
        match self {
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Some(Disk::Full),
                std::io::ErrorKind::ReadOnlyFilesystem => Some(Disk::ReadOnly),
                _ => None,
            },
            // libgit2 keeps the system's words and not its number
            Self::Git { source, .. } => {
                let says = |words: &str| source.message().contains(words);
                if says("No space left on device") || says("Disk quota exceeded") {
                    return Some(Disk::Full);
                }
                says("Read-only file system").then_some(Disk::ReadOnly)
            }
            _ => None,
        }
    }

    /// A single fault.
    pub(crate) fn invalid(file: impl Into<String>, message: impl Into<String>) -> Self {
        let fault = FileFault { file: file.into(), line: None, pointer: String::new(), message: message.into() };
        Self::Invalid { faults: vec![fault] }
    }

    /// Something looked for by name.
    pub(crate) fn not_found(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::NotFound { what: what.into(), next: next.into() }
    }
}

/// Says what was being done when git or the system refused.
pub(crate) trait Doing<T> {
    /// `doing` is a phrase such as "reading /data/config.git"; it is made only on failure.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, git2::Error> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Git { doing: doing().into(), source })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Io { doing: doing().into(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_no_write_is_told_from_a_broken_repository() {
        let git = |words: &str| {
            let source = git2::Error::new(git2::ErrorCode::GenericError, git2::ErrorClass::Os, words);
            Error::Git { doing: "writing".into(), source }
        };
        let io = |errno| Error::Io { doing: "writing".into(), source: std::io::Error::from_raw_os_error(errno) };
        let check = |error: Error, expect| assert_eq!(error.disk(), expect, "{error:?}");
        check(git("failed to write chunk: No space left on device"), Some(Disk::Full));
        check(git("failed to create temporary file '/x/pack_1': Read-only file system"), Some(Disk::ReadOnly));
        check(git("object not found"), None);
        check(io(28), Some(Disk::Full));
        check(io(30), Some(Disk::ReadOnly));
        check(io(2), None);
        check(Error::not_found("a", "b"), None);
    }
}
