//! An upstream git server of a repository: we mirror it, and what is written here is pushed there first.
//!
//! ```text
//!            ls-remote, fetch                       other controllers, people
//!  upstream ─────────────────► mirror ──► reads          │ push
//!     ▲  └── push with lease ──┘ ref moves after ◄── writes (commit on top of upstream's newest)
//!     └──────────────────────────────────────────────────┘
//! ```
//! A write is acknowledged once upstream has it, and only then seen here: whatever dies in between, what
//! was acknowledged is upstream, and the next look takes what was not seen. Reads ask upstream for nothing
//! but what somebody names and is not here.
//!
//! The transport is the `git` program: it speaks to every server there is, over https and ssh, with
//! credential helpers and known hosts. libgit2 with its own https and ssh would link OpenSSL and libssh2
//! into the controller for this alone (dependencies: git2 is built without them), and cannot be ended
//! while it waits for a server. `git` and `openssh-client` are needed only where an upstream is set.
//!
//! Never here: merging what others changed; a write is made anew on top of it, by the rules of its caller.

mod command;
mod door;
mod link;
mod mirror;
mod publish;
mod remote;
mod spec;

pub(crate) use mirror::Scope;
pub use mirror::Taken;
pub(crate) use remote::Move;
pub use spec::{FieldFault, UpstreamSpec};

use crate::cache::locked;
use crate::error::Error;
use remote::Refs;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// A server that did not answer is not asked again for so long: whoever waits behind a hanging
/// question is refused at once instead of hanging in turn.
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// The upstream of a repository.
pub(crate) struct Upstream {
    /// Which of the repositories: `config` or `script`.
    name: &'static str,
    spec: UpstreamSpec,
    dir: PathBuf,
    door: door::Door,
    standing: Mutex<Standing>,
}

/// Refs of upstream that are not taken, with the commit there and why.
pub(crate) type Refused = BTreeMap<String, (String, String)>;

/// What is known of an upstream.
#[derive(Default)]
struct Standing {
    /// The last complete look that found nothing to do, or did it.
    seen: Option<Instant>,
    away: Option<Away>,
    refused: Refused,
    /// The refs as of that look.
    refs: Option<Refs>,
    /// Refs that were taken, by whomever, since the last look that was asked for.
    news: BTreeSet<String>,
    /// When somebody last missed something that could be upstream.
    missed: Option<Instant>,
}

struct Away {
    since: SystemTime,
    tried: Instant,
    why: String,
}

/// How far a failed question got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// Upstream was asked to change nothing.
    NothingSent,
    /// A push was sent; whether it was taken is not known.
    Unknown,
}

/// How an upstream is, for who operates it.
#[derive(Clone, Debug)]
pub struct UpstreamView {
    /// Age of the mirror: how long ago it was known to be as upstream is. `None`: not since the start.
    pub age: Option<Duration>,
    /// Since when upstream does not answer, and what git says; without secrets, with the URL.
    pub away: Option<(SystemTime, String)>,
    /// Refs of upstream that are not taken, each with its commit there and why.
    pub refused: Vec<(String, String, String)>,
}

impl Upstream {
    fn new(name: &'static str, spec: UpstreamSpec, dir: PathBuf) -> Self {
        Self { name, spec, dir, door: door::Door::default(), standing: Mutex::default() }
    }

    fn view(&self) -> UpstreamView {
        let standing = locked(&self.standing);
        let refused = standing.refused.iter().map(|(name, (commit, why))| (name.clone(), commit.clone(), why.clone()));
        UpstreamView {
            age: standing.seen.map(|seen| seen.elapsed()),
            away: standing.away.as_ref().map(|away| (away.since, away.why.clone())),
            refused: refused.collect(),
        }
    }

    /// Refuses at once what would ask a server that has just not answered.
    fn hoped(&self) -> Result<(), Error> {
        match &locked(&self.standing).away {
            Some(away) if away.tried.elapsed() < ASKED_AGAIN => Err(self.absent(away, Outage::NothingSent)),
            _ => Ok(()),
        }
    }

    fn answered(&self) {
        if locked(&self.standing).away.take().is_some() {
            tracing::info!(repo = self.name, "the upstream git server answers again");
        }
    }

    fn failed(&self, why: &str, outage: Outage) -> Error {
        let mut standing = locked(&self.standing);
        let first = standing.away.is_none();
        let since = standing.away.as_ref().map_or_else(SystemTime::now, |away| away.since);
        let away = Away { since, tried: Instant::now(), why: why.to_owned() };
        let error = self.absent(&away, outage);
        standing.away = Some(away);
        drop(standing);
        if first {
            tracing::warn!(repo = self.name, url = self.spec.url, why, "the upstream git server does not answer");
        }
        error
    }

    fn absent(&self, away: &Away, outage: Outage) -> Error {
        // to the second: more says nothing
        let since = jiff::Timestamp::try_from(away.since).unwrap_or_default();
        let since = since.round(jiff::Unit::Second).unwrap_or(since);
        let what = format!(
            "the upstream git server of the {} repo, {}, does not answer as it should since {since}: {}",
            self.name, self.spec.url, away.why
        );
        let next = match outage {
            Outage::NothingSent => "nothing was changed, and what is read comes from the mirror; try again",
            Outage::Unknown => {
                "nothing was changed here; upstream may have taken it all the same: read again before trying again"
            }
        };
        let field = if self.name == "config" { "config" } else { "scripts" };
        let next = format!("{next}; if it lasts, look at that server and at [git.{field}] of controller.toml");
        Error::Away { what, next }
    }

    fn apart(&self, what: String, next: impl Into<String>) -> Error {
        Error::Apart { what: format!("{} repo: {what}", self.name), next: next.into() }
    }

    /// Removes lock files of a git that had to be killed.
    fn tidy(&self) {
        if let Err(error) = crate::seed::remove_dead_locks(&self.dir) {
            tracing::warn!(repo = self.name, %error, "cannot remove lock files that a killed git left behind");
        }
    }
}
