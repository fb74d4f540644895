//! The daemon's parts: the engine, and beside it the repositories, users and what serves them.

use crate::agents::Guesses;
use crate::config::Config;
use crate::disk::Disk;
use crate::engine::Engine;
pub use crate::engine::blocking;
use crate::http::limits::Limits;
use crate::identity::Identity;
use crate::pool::desk::Desk;
use crate::storage::Storages;
use std::ops::Deref;
use std::sync::Arc;
use straas_repos::{ConfigRepo, Packs, ScriptRepo};
use tokio_util::task::TaskTracker;

/// The controller's parts.
pub struct App {
    /// What records, plans and answers agents; everything here has its parts as its own.
    pub engine: Engine,
    /// Its configuration.
    pub config: Config,
    /// The config repo.
    pub configs: ConfigRepo,
    /// The script repo.
    pub scripts: ScriptRepo,
    /// Packs of the script repo.
    pub packs: Packs,
    /// Who came with join tokens that are no good.
    pub guesses: Guesses,
    /// Hosts of the pool that wait for news.
    pub pool: Arc<Desk>,
    /// The disk of the data directory.
    pub disk: Disk,
    /// Files that tenants keep.
    pub storage: Arc<Storages>,
    /// Where users and their tokens are known.
    pub identity: Arc<dyn Identity>,
    /// Hash of the administrator's token.
    pub admin_token: String,
    /// How much is asked for.
    pub limits: Limits,
    /// Tasks beside the main ones: streams to users, work on hosts.
    pub tasks: TaskTracker,
}

impl Deref for App {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// What a new host's agent is told, but for its token.
#[derive(Clone, Debug)]
pub struct BootTemplate {
    /// URLs of the controllers.
    pub controllers: Vec<String>,
    /// Where packages come from.
    pub apt: Option<straas_drivers::AptSource>,
}
