//! What controllers over one database tell each other.
//!
//! A word names what there is news of and carries nothing else: whoever hears it reads that anew. Words are kept in their
//! order for some minutes; where the database can, whoever listens is woken at once, else he looks every second.
//!
//! Nothing is correct because of a word: one that is lost is made good by the next look at everything. A word of a newer version
//! that this one does not know is passed over.

use crate::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use straas_schemas::{NodeId, TopologyId};

/// Words are kept so long, in ms.
pub const NEWS_KEPT_MS: i64 = 10 * 60 * 1000;
/// A controller that was not seen for so long is taken for gone, in ms: clocks of controllers may differ by some of it.
pub const PRESENT_MS: i64 = 60 * 1000;
/// Most words of one message; more are several.
pub const WORDS_MAX: usize = 500;

/// Of what there is news.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Its assignment, its enrolment, or whether it is there.
    Node(NodeId),
    /// Something that people see of it.
    Topology(TopologyId),
    /// A rollout over the fleet was begun or steered.
    Rollouts,
    /// Something of it has to be planned, and the one who says so leaves that to a newer version.
    Look(TopologyId),
}

/// Another controller over the same database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Its run.
    pub id: String,
    /// Its [`NewsStore::level`].
    pub level: i64,
    /// Its version, as it says it.
    pub version: String,
}

/// What there is to hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The number of the newest message.
    pub last: u64,
    /// The words of the others since the last look.
    pub words: Vec<Word>,
    /// Some are gone already: everything has to be looked at.
    pub missed: bool,
}

/// What the store promises of news.
#[async_trait]
pub trait NewsStore: Send + Sync {
    /// Whether other controllers may be over the same database.
    fn is_shared(&self) -> bool;
    /// The newest migration that this program knows: of two versions the one that knows more is the newer.
    fn level(&self) -> i64;
    /// Notes that a controller of this version is there, and gives the others that were seen within [`PRESENT_MS`],
    /// at most [`crate::PAGE_MAX`].
    async fn present(&self, id: &str, version: &str, now_ms: i64) -> Result<Vec<Beside>>;
    /// A controller goes.
    async fn leave(&self, id: &str) -> Result<()>;
    /// Says these words, at most [`WORDS_MAX`], and wakes who listens; without any it only wakes. Words older than
    /// [`NEWS_KEPT_MS`] are forgotten.
    async fn say(&self, id: &str, words: &[Word], now_ms: i64) -> Result<()>;
    /// The number of the newest message.
    async fn last_news(&self) -> Result<u64>;
    /// What was said by others than `id` after the message of this number.
    async fn news(&self, id: &str, after: u64) -> Result<Heard>;
    /// Ends when somebody woke those who listen. Of a database that cannot do that it never ends.
    async fn listen(&self) -> Result<()>;
}
