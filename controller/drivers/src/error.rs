//! What can go wrong with a host, in words an operator can act on.
//!
//! `Display` says what happened and where; [`HostError::hint`] says what to do next. The source is
//! never repeated in the text, so a log line with the whole chain reads once.

use std::io;
use std::path::{Path, PathBuf};

/// An error of a host driver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A field of the request is not acceptable.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field, e.g. `id`.
        field: &'static str,
        /// Why, with the offending value where it is safe to show.
        reason: String,
    },
    /// The id is taken by a host that is not the one asked for.
    #[error("host {id} exists already: {reason}")]
    Conflict {
        /// The host's id.
        id: String,
        /// What differs.
        reason: String,
    },
    /// No such host.
    #[error("there is no host {0}")]
    NotFound(String),
    /// The host exists but is down.
    #[error("host {0} is down")]
    Down(String),
    /// This kind of host cannot do that.
    #[error("{0}")]
    Unsupported(String),
    /// The subnet is used up, or the wanted address is taken.
    #[error("no address: {0}")]
    NoAddress(String),
    /// No host can be had.
    #[error("{0}")]
    NoHost(String),
    /// The host is still somebody else's word to give: it has not let go.
    #[error("{0}")]
    Held(String),
    /// A program of the machine is missing.
    #[error("the program `{tool}` is not installed")]
    MissingTool {
        /// The program.
        tool: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Another driver holds this instance.
    #[error("{path} is in use by another controller ({holder})")]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it, usually `pid N`.
        holder: String,
    },
    /// A program ran and failed.
    #[error("{what} failed ({status}): {output}")]
    Command {
        /// What was being done.
        what: String,
        /// Its exit status.
        status: String,
        /// The last lines it wrote.
        output: String,
    },
    /// Something did not happen within its time limit.
    #[error("{what} took longer than {seconds} s")]
    Timeout {
        /// What was awaited.
        what: String,
        /// The limit.
        seconds: u64,
    },
    /// The machine refused a file or a system call.
    #[error("{what}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The machine's own words.
        source: io::Error,
    },
    /// Something was stored that we cannot read.
    #[error("{path} cannot be read: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl HostError {
    /// What a person can do about it, if we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingTool { package, .. } => Some(format!("apt-get install {package}")),
            Self::Busy { .. } => Some("stop the other controller, or give this one another state directory".into()),
            Self::NoAddress(_) => Some("delete hosts that are no longer needed, or configure a larger subnet".into()),
            Self::NoHost(_) => Some("let more hosts join the pool of this zone, or ask for smaller ones".into()),
            Self::Unsupported(_) => {
                Some("run as root on Linux with namespaces and overlayfs, with `--isolation microhost`".into())
            }
            Self::Corrupt { path, .. } => Some(format!("look at {} and remove it if it is of no use", path.display())),
            _ => None,
        }
    }

    /// For `map_err`: an I/O error together with what was being done.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }

    /// For `map_err`: an I/O error on a path.
    pub(crate) fn at<E: Into<io::Error>>(verb: &str, path: &Path) -> impl FnOnce(E) -> Self {
        Self::io(format!("cannot {verb} {}", path.display()))
    }

    /// The whole chain in one line, for logs and for a helper's stderr.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
