//! What can go wrong inside the controller, as background tasks see it. The HTTP face has its own
//! error type (`http/problem.rs`); this one is logged once, where it is handled.

/// An error of the controller's parts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] straas_store::StoreError),
    /// A git repository.
    #[error(transparent)]
    Repos(#[from] straas_repos::Error),
    /// The hosts' provider.
    #[error(transparent)]
    Hosts(#[from] straas_drivers::HostError),
    /// Certificates.
    #[error(transparent)]
    Ca(#[from] crate::ca::CaError),
    /// TLS of the agent port.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// A file of the controller's own.
    #[error("cannot keep a file that nodes are told to fetch")]
    Kept(#[source] std::io::Error),
    /// The controller is going down.
    #[error("the controller is stopping")]
    Stopping,
    /// A blocking task was cancelled or panicked.
    #[error("a task of the controller did not end: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// The whole chain of causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// The whole chain of an error's causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
