//! A host of the pool: waits for a node, runs that node's agent, and cleans up when the node is taken away.
//!
//! ```text
//!   poll ── what it is wanted for ──► tenancy ──► the node's agent, a process of its own
//!     ▲                                  │            (its directory: nodes/<id>/)
//!     └── what it has, and is cleaning ──┘──► stop.sh, remove.sh
//! ```
//! The node's agent is this very program with a configuration of its own: it knows nothing of the pool, and what it
//! leaves is in one directory. Whether it should run is written down (`record.rs`) before it is started, so that after a
//! crash or a reboot, or with no controller at hand, the node goes on.
//!
//! Never here: taking a node away because nobody answers. Only a controller's word does that.

mod clean;
mod facts;
mod identity;
mod poll;
mod record;
mod tenancy;

use crate::agent::{AgentError, stop_signal};
use crate::client::Client;
use crate::config::PoolConfig;
use crate::keys::Identity;
use crate::{ledger, trust};
use record::{Record, RecordFile};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use straas_schemas::pool::{Allotment, HostWish};
use tokio::sync::{Notify, watch};

/// What all parts share.
struct Pool {
    config: PoolConfig,
    client: Client,
    identity: RefCell<Identity>,
    record: RefCell<RecordFile>,
    /// What it was told last, with what it needs for a node it was given; none since the start.
    told: watch::Sender<Option<Told>>,
    /// Why cleaning up did not succeed.
    dirty: RefCell<Option<String>>,
    /// What the next poll says is not what the last one said.
    changed: Notify,
    /// The certificate is to be renewed.
    renew: Notify,
    /// Controllers refuse the certificate: another one is asked for without it.
    rejected: Cell<bool>,
}

/// What a controller said.
#[derive(Clone, Debug)]
struct Told {
    wish: HostWish,
    allotment: Option<Allotment>,
}

impl Pool {
    /// What is to be so, as far as it is known.
    fn wish(&self) -> Option<HostWish> {
        self.told.borrow().as_ref().map(|told| told.wish.clone())
    }

    fn record(&self) -> Record {
        self.record.borrow().now().clone()
    }

    /// Writes down what is to hold from here on, and says so in the next poll.
    fn note(&self, record: Record) -> Result<(), AgentError> {
        let written = self.record.borrow_mut().write(record);
        written.map_err(|(what, source)| AgentError::Io { what, source })?;
        self.changed.notify_one();
        Ok(())
    }

    /// The directory of a node's agent.
    fn node_dir(&self, node: &straas_schemas::NodeId) -> PathBuf {
        self.config.state_dir.join("nodes").join(node.as_str())
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot start: no token, or files that cannot be used.
pub async fn run(config: PoolConfig) -> Result<(), AgentError> {
    let stop = stop_signal()?;
    run_until(config, stop).await
}

/// Runs until `stop` turns true; then ends the node's agent in order, and itself.
///
/// # Errors
/// As [`run`].
pub async fn run_until(config: PoolConfig, mut stop: watch::Receiver<bool>) -> Result<(), AgentError> {
    let io = |what: String| move |source| AgentError::Io { what, source };
    ledger::make_dir(&config.state_dir).map_err(io(format!("{} cannot be made", config.state_dir.display())))?;
    let _lock = ledger::lock(&config.state_dir)?;
    let record = RecordFile::open(&config.state_dir).map_err(|(what, source)| AgentError::Io { what, source })?;
    let ca_pem = trust::load(&identity::tls(&config), &config.ca_file)
        .map_err(io(format!("the CA file {} cannot be read", config.ca_file.display())))?;
    // a node that it has goes on while it is not even known who this is
    let (client, identity) = match identity::known(&config, &ca_pem)? {
        Some(known) => known,
        None => tokio::select! {
            joined = identity::join(&config, ca_pem) => joined?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        },
    };
    tracing::info!(
        host = identity.id,
        incarnation = identity.incarnation,
        node = record.now().node().map(|n| n.0.clone()),
        version = env!("CARGO_PKG_VERSION"),
        "host of the pool starts"
    );
    let pool = Pool {
        config,
        client,
        identity: RefCell::new(identity),
        record: RefCell::new(record),
        told: watch::Sender::new(None),
        dirty: RefCell::new(None),
        changed: Notify::new(),
        renew: Notify::new(),
        rejected: Cell::new(false),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let result = tokio::select! {
        result = tenancy::run(&pool, stop) => result,
        () = poll::run(&pool) => Ok(()),
        () = identity::keep_renewed(&pool) => Ok(()),
    };
    tracing::info!("ends");
    result
}
