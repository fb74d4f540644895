//! Output of guest commands on its way to the controller, piece by piece while they run.
//!
//! The file of a command is the truth; what is kept here is how much of it the controller has. Its
//! answer to each piece says where to go on, so a controller that lost some, or is another one, gets
//! what it lacks. A file is removed when the command has ended and all of it is there, or when
//! nobody wants it any more.
//!
//! One piece at a time: the first a moment after it was written, then a few a second, at once when
//! a piece is full or the command has ended. While nothing is written, nothing runs here.
//!
//! Never here: the end of a command, which is a report.

use super::is_own_dir;
use crate::agent::Agent;
use crate::backoff::Backoff;
use crate::client::ClientError;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use straas_converge::CommandRecord;
use straas_schemas::CommandId;
use straas_schemas::command::{COMMAND_PIECE_BYTES_MAX, CommandOutputAnswer};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// From the first byte to the first piece: most of what a short command writes fits into one.
const FIRST: Duration = Duration::from_millis(50);
/// Between two pieces of one command.
const PAUSE: Duration = Duration::from_millis(250);
/// Most files of commands that have ended, each up to a MiB; the oldest goes first.
const ENDED_MAX: usize = 64;

/// What is on its way.
pub struct Live {
    dir: PathBuf,
    streams: RefCell<BTreeMap<CommandId, Stream>>,
    /// There is something new to send.
    wake: Notify,
    /// A request got through after others had not.
    pub linked: Notify,
}

struct Stream {
    /// Bytes in the file.
    kept: u64,
    /// Bytes that the controller has.
    sent: u64,
    ended: bool,
    /// Not before this time.
    at: Instant,
}

impl Live {
    /// Takes up the files that an earlier agent left.
    #[must_use]
    pub fn resume(dir: PathBuf, journal: &BTreeMap<CommandId, CommandRecord>) -> Self {
        let mut streams = BTreeMap::new();
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let id = entry.file_name().to_str().and_then(is_own_dir);
            let Some((id, record)) = id.and_then(|id| journal.get_key_value(&id)) else {
                // nobody knows of it any more
                let _ = std::fs::remove_dir_all(entry.path());
                continue;
            };
            let kept = std::fs::metadata(entry.path().join("output")).map_or(0, |metadata| metadata.len());
            // what the controller has, it says in its answer
            let stream = Stream { kept, sent: 0, ended: !record.is_open(), at: Instant::now() };
            streams.insert(id.clone(), stream);
        }
        let this = Self { dir, streams: RefCell::new(streams), wake: Notify::new(), linked: Notify::new() };
        this.clean();
        this
    }

    /// The file of a command has this length now.
    pub fn grew(&self, id: &CommandId, kept: u64) {
        let mut streams = self.streams.borrow_mut();
        let new = Stream { kept: 0, sent: 0, ended: false, at: Instant::now() };
        let stream = streams.entry(id.clone()).or_insert(new);
        stream.ended = false;
        if kept == stream.kept {
            return;
        }
        if stream.kept == stream.sent {
            stream.at = stream.at.max(Instant::now() + FIRST);
        }
        stream.kept = kept;
        if stream.kept - stream.sent >= COMMAND_PIECE_BYTES_MAX as u64 {
            stream.at = Instant::now();
        }
        self.wake.notify_one();
    }

    /// Nothing more comes of a command.
    pub fn ended(&self, id: &CommandId) {
        if let Some(stream) = self.streams.borrow_mut().get_mut(id) {
            stream.ended = true;
            stream.at = Instant::now();
        } else {
            // it never came to write
            let _ = std::fs::remove_dir_all(self.dir.join(id.as_str()));
        }
        self.clean();
        self.wake.notify_one();
    }

    /// The next piece: when it is due, of which command, and from where on.
    fn next(&self) -> Option<(Instant, CommandId, u64)> {
        let streams = self.streams.borrow();
        let waiting = streams.iter().filter(|(_, stream)| stream.sent < stream.kept);
        waiting.map(|(id, stream)| (stream.at, id.clone(), stream.sent)).min()
    }

    fn sent(&self, id: &CommandId, next: u64) {
        if let Some(stream) = self.streams.borrow_mut().get_mut(id) {
            stream.sent = next.min(stream.kept);
            let full = stream.kept - stream.sent >= COMMAND_PIECE_BYTES_MAX as u64;
            stream.at = if full || stream.ended { Instant::now() } else { Instant::now() + PAUSE };
        }
        self.clean();
    }

    /// Nobody wants the output of this one.
    fn unwanted(&self, id: &CommandId) {
        if let Some(stream) = self.streams.borrow_mut().get_mut(id) {
            stream.sent = stream.kept;
        }
        self.clean();
    }

    /// Removes what is done, and what is too much.
    fn clean(&self) {
        let mut streams = self.streams.borrow_mut();
        let mut ended: Vec<(Instant, CommandId)> = Vec::new();
        streams.retain(|id, stream| {
            let done = stream.ended && stream.sent >= stream.kept;
            if done {
                let _ = std::fs::remove_dir_all(self.dir.join(id.as_str()));
            } else if stream.ended {
                ended.push((stream.at, id.clone()));
            }
            !done
        });
        ended.sort();
        let surplus = ended.len().saturating_sub(ENDED_MAX);
        for (_, id) in ended.into_iter().take(surplus) {
            tracing::warn!(id = id.as_str(), "too much output waits to be sent; that of an old command is given up");
            streams.remove(&id);
            let _ = std::fs::remove_dir_all(self.dir.join(id.as_str()));
        }
    }
}

/// Sends for ever.
pub async fn run(agent: &Agent) {
    let live = &agent.live;
    let mut backoff = Backoff::default();
    loop {
        let Some((at, id, offset)) = live.next() else {
            live.wake.notified().await;
            continue;
        };
        if at > Instant::now() {
            tokio::select! { () = sleep_until(at) => {} () = live.wake.notified() => {} }
            continue;
        }
        match send(agent, &live.dir, &id, offset).await {
            Ok(next) => {
                live.sent(&id, next);
                if next > offset {
                    backoff.reset();
                    continue;
                }
            }
            // deleted, or a controller that does not know such things
            Err(ClientError::Status { status: 400 | 404 | 405 | 409 | 410 | 413, detail, .. }) => {
                tracing::debug!(id = id.as_str(), detail, "nobody wants the output of this command");
                live.unwanted(&id);
                continue;
            }
            Err(error) => {
                tracing::debug!(%error, id = id.as_str(), failures = backoff.failures() + 1, "output could not be sent");
                if !agent.look(|converger, _| converger.ledger().commands.contains_key(&id)) {
                    live.unwanted(&id);
                }
            }
        }
        tokio::select! { () = sleep(backoff.failed()) => {} () = live.linked.notified() => {} }
    }
}

async fn send(agent: &Agent, dir: &Path, id: &CommandId, offset: u64) -> Result<u64, ClientError> {
    let read = || {
        let file = std::fs::File::open(dir.join(id.as_str()).join("output"))?;
        let mut bytes = vec![0; COMMAND_PIECE_BYTES_MAX];
        let count = file.read_at(&mut bytes, offset)?;
        bytes.truncate(count);
        std::io::Result::Ok(bytes)
    };
    let Ok(bytes) = read() else {
        // somebody removed it: there is nothing to send
        return Ok(u64::MAX);
    };
    if bytes.is_empty() {
        return Ok(u64::MAX);
    }
    let path = agent.path(&format!("commands/{id}/output?offset={offset}"));
    agent.client.post_raw::<CommandOutputAnswer>(&path, bytes.into()).await.map(|answer| answer.next)
}
