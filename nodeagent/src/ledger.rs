//! The ledger on the disk: sled behind an interface of three methods.
//!
//! * One `Persist` is one sled batch: all of it or nothing survives a crash.
//! * sled's `flush` is `sync_file_range(2)` on Linux and not durable over a power cut, so the file
//!   is fdatasync'ed after it.
//! * Every record carries a crc32. A damaged ledger is set aside and named, never repaired in
//!   place and never a reason not to start: the controller sends the assignment again, and stages
//!   are idempotent.
//! * sled takes a damaged page anywhere in its log for the torn end of an unclean stop and silently
//!   keeps only what is before it. So every batch is numbered, and the newest number that became
//!   durable stands in a witness file beside the database: a ledger that went back is damaged.
//! * After a write that failed sled takes no other. So the database is closed then, and opened again
//!   with the next write: what the disk takes again goes on without another start of the agent.
//! * What is written down is to be done, which needs room as well. So nothing is written where little is
//!   left, though sled's file may still have some inside.
//! * sled takes a snapshot of itself whose writing broke off, which has another name, for its newest one
//!   and finds it damaged. It is a copy of what the log says, so it is removed before sled sees it.
//! * A kernel lock on the state directory keeps a second agent out; it ends with the process.
//!
//! Never here: script output (plain files) and anything unbounded; sled keeps it all in memory.

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use straas_converge::{Ledger, LedgerChange};
use straas_schemas::{CommandId, Stage};

/// Bytes sled may cache: the whole ledger is below that except for very large assignments.
const CACHE_BYTES: u64 = 4 << 20;
/// Distance of the witness's two slots: a sector, which a disk writes whole.
const SLOT_BYTES: u64 = 4096;
/// Room that has to be left for a write: a context, arguments, the first output of a run, a segment of sled.
const ROOM_BYTES_MIN: u64 = 1 << 20;
/// Damaged ledgers kept for a person to look at.
const QUARANTINED_MAX: usize = 2;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another agent runs on this directory.
    #[error("another straas-agent runs with {0}; two must never share a state directory")]
    Locked(PathBuf),
    /// The disk or its permissions.
    #[error("the ledger in {path} cannot be used")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database itself.
    #[error("the ledger database")]
    Database(#[from] sled::Error),
    /// So little room is left that nothing could be done.
    #[error("only {0} bytes are left on the disk")]
    Full(u64),
    /// The newest writes are missing.
    #[error("the ledger went back: it ends at write {found}, but write {witnessed} was durable")]
    WentBack {
        /// Where it ends.
        found: u64,
        /// Where it should end at least.
        witnessed: u64,
    },
    /// A record whose checksum or form is wrong.
    #[error("record {0:?} of the ledger is damaged")]
    Damaged(String),
}

/// The ledger on the disk.
#[derive(Debug)]
pub struct LedgerFile {
    dir: PathBuf,
    /// Closed after a write that failed.
    open: Option<Open>,
    /// Batches that are durable, the newest one's number.
    durable: u64,
}

/// Its files.
#[derive(Debug)]
struct Open {
    db: sled::Db,
    tree: sled::Tree,
    file: File,
    witness: File,
    /// Batches written, the newest one's number.
    count: u64,
}

/// Holds the state directory for this process; released by the kernel when it ends.
#[derive(Debug)]
pub struct StateLock(#[allow(dead_code)] Flock<File>);

/// Makes a state directory that only root enters.
///
/// # Errors
/// The disk.
pub fn make_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Locks the state directory.
///
/// # Errors
/// [`LedgerError::Locked`] if another agent has it.
pub fn lock(state_dir: &Path) -> Result<StateLock, LedgerError> {
    let io = |source| LedgerError::Io { path: state_dir.into(), source };
    let file = File::create(state_dir.join("lock")).map_err(io)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(StateLock(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(LedgerError::Locked(state_dir.into())),
        Err((_, errno)) => Err(io(errno.into())),
    }
}

/// What becomes of a ledger that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// It is set aside, and the node starts from nothing.
    SetAside,
    /// It stays as it is for another agent, and is an error here.
    Refuse,
}

impl LedgerFile {
    /// Opens the ledger in `dir` and reads all of it. A damaged one is set aside, if it may be; then the reason
    /// comes back with an empty ledger. The caller holds the [`StateLock`].
    ///
    /// # Errors
    /// When the disk does not let it, which setting aside would not change; when it is damaged and has to stay.
    pub fn open(dir: &Path, damaged: Damaged) -> Result<(Self, Ledger, Option<String>), LedgerError> {
        let reason = match Self::open_once(dir) {
            Ok((this, ledger)) => return Ok((this, ledger, None)),
            Err(error) if damaged == Damaged::SetAside && error.is_damage() => error.whole(),
            Err(error) => return Err(error),
        };
        let aside = quarantine(dir).map_err(|source| LedgerError::Io { path: dir.into(), source })?;
        tracing::error!(reason, aside = %aside.display(), "the ledger is damaged; it was set aside, the node starts from nothing");
        let (this, ledger) = Self::open_once(dir)?;
        Ok((this, ledger, Some(reason)))
    }

    fn open_once(dir: &Path) -> Result<(Self, Ledger), LedgerError> {
        let (open, ledger) = Open::at(dir)?;
        Ok((Self { dir: dir.to_owned(), durable: open.count, open: Some(open) }, ledger))
    }

    /// Makes changes durable, all of them or none.
    ///
    /// # Errors
    /// When the disk does not take them; then none may be relied on, and the same may be tried again. When what was
    /// durable is not there any more: see [`LedgerError::is_damage`].
    pub fn persist(&mut self, changes: &[LedgerChange]) -> Result<(), LedgerError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match change {
                LedgerChange::Head(head) => batch.insert("head", encode(head)),
                LedgerChange::Assignment(assignment) => batch.insert("assignment", encode(assignment)),
                LedgerChange::Stage(stage, record) => {
                    batch.insert(format!("stage/{}", stage.name()).as_str(), encode(record));
                }
                LedgerChange::Append(report) => batch.insert(outbox_key(report.seq).as_str(), encode(report)),
                LedgerChange::Forget(seq) => batch.remove(outbox_key(*seq).as_str()),
                LedgerChange::Command(record) => batch.insert(command_key(&record.id).as_str(), encode(record)),
                LedgerChange::ForgetCommand(id) => batch.remove(command_key(id).as_str()),
                LedgerChange::Drift(record) => batch.insert("drift", encode(record)),
            }
        }
        self.apply(batch)
    }

    /// Writes and syncs a little, to know that the disk still takes it.
    ///
    /// # Errors
    /// When it does not.
    pub fn probe(&mut self) -> Result<(), LedgerError> {
        self.apply(sled::Batch::default())
    }

    fn apply(&mut self, batch: sled::Batch) -> Result<(), LedgerError> {
        if let Some(left) = room(&self.dir).filter(|left| *left < ROOM_BYTES_MIN) {
            return Err(LedgerError::Full(left));
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.reopen()?,
        };
        open.apply(batch)?;
        self.durable = open.count;
        self.open = Some(open);
        Ok(())
    }

    fn reopen(&self) -> Result<Open, LedgerError> {
        let (open, _) = Open::at(&self.dir)?;
        if open.count < self.durable {
            return Err(LedgerError::WentBack { found: open.count, witnessed: self.durable });
        }
        Ok(open)
    }
}

impl Open {
    fn at(dir: &Path) -> Result<(Self, Ledger), LedgerError> {
        remove_unfinished(dir).map_err(|source| LedgerError::Io { path: dir.into(), source })?;
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::LowSpace)
            .flush_every_ms(None)
            .open()?;
        let tree = db.open_tree("ledger")?;
        let path = dir.join("db");
        let file = File::open(&path).map_err(|source| LedgerError::Io { path, source })?;
        let path = witness_path(dir);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let witness = open.map_err(|source| LedgerError::Io { path, source })?;
        let mut this = Self { db, tree, file, witness, count: 0 };
        let ledger = this.load()?;
        let witnessed = (0..2).filter_map(|slot| this.witnessed(slot)).max().unwrap_or(0);
        if this.count < witnessed {
            return Err(LedgerError::WentBack { found: this.count, witnessed });
        }
        Ok((this, ledger))
    }

    fn load(&mut self) -> Result<Ledger, LedgerError> {
        let mut ledger = Ledger::default();
        for record in &self.tree {
            let (key, value) = record?;
            let name = String::from_utf8_lossy(&key).into_owned();
            let damaged = || LedgerError::Damaged(name.clone());
            match name.split_once('/').unwrap_or((&name, "")) {
                ("head", _) => ledger.head = decode(&value).ok_or_else(damaged)?,
                ("assignment", _) => ledger.assignment = Some(decode(&value).ok_or_else(damaged)?),
                ("stage", of) => {
                    let stage = Stage::ALL.into_iter().find(|stage| stage.name() == of).ok_or_else(damaged)?;
                    ledger.stages.insert(stage, decode(&value).ok_or_else(damaged)?);
                }
                ("outbox", seq) => {
                    let seq = seq.parse().map_err(|_| damaged())?;
                    ledger.outbox.insert(seq, decode(&value).ok_or_else(damaged)?);
                }
                ("command", id) => {
                    ledger.commands.insert(CommandId(id.to_owned()), decode(&value).ok_or_else(damaged)?);
                }
                ("drift", _) => ledger.drift = Some(decode(&value).ok_or_else(damaged)?),
                ("count", _) => self.count = decode(&value).ok_or_else(damaged)?,
                _ => return Err(damaged()),
            }
        }
        Ok(ledger)
    }

    fn apply(&mut self, mut batch: sled::Batch) -> Result<(), LedgerError> {
        let io = |source| LedgerError::Io { path: "ledger".into(), source };
        self.count += 1;
        batch.insert("count", encode(&self.count));
        self.tree.apply_batch(batch)?;
        self.db.flush()?;
        self.file.sync_data().map_err(io)?;
        // two slots in turn: a write that a power cut tears leaves the other one
        let mut record = [0; 12];
        record[..8].copy_from_slice(&self.count.to_le_bytes());
        record[8..].copy_from_slice(&crc32fast::hash(&self.count.to_le_bytes()).to_le_bytes());
        self.witness.write_all_at(&record, self.count % 2 * SLOT_BYTES).map_err(io)?;
        self.witness.sync_data().map_err(io)
    }

    fn witnessed(&self, slot: u64) -> Option<u64> {
        let mut record = [0; 12];
        self.witness.read_exact_at(&mut record, slot * SLOT_BYTES).ok()?;
        let count: [u8; 8] = record[..8].try_into().ok()?;
        (crc32fast::hash(&count).to_le_bytes() == record[8..]).then(|| u64::from_le_bytes(count))
    }
}

/// Removes snapshots that sled did not come to finish.
fn remove_unfinished(dir: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "generating") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Bytes that are left for root, where that can be told.
fn room(dir: &Path) -> Option<u64> {
    let told = nix::sys::statvfs::statvfs(dir).ok()?;
    Some(told.blocks_free().saturating_mul(told.fragment_size()))
}

fn witness_path(dir: &Path) -> PathBuf {
    dir.with_extension("witness")
}

/// Sorts by number.
fn outbox_key(seq: u64) -> String {
    format!("outbox/{seq:020}")
}

fn command_key(id: &CommandId) -> String {
    format!("command/{id}")
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    // our types are structs of strings, numbers and JSON values: they always serialise
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    let sum = crc32fast::hash(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc32fast::hash(body).to_le_bytes() != sum {
        return None;
    }
    serde_json::from_slice(body).ok()
}

impl LedgerError {
    /// Whether it speaks of the content, so that a new ledger would not meet it again.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::WentBack { .. } => true,
            Self::Database(sled::Error::Io(error)) => !matches!(
                error.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::StorageFull
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::FileTooLarge
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::WouldBlock
                    | ErrorKind::OutOfMemory
            ),
            Self::Database(_) => true,
            Self::Io { source, .. } => source.kind() == ErrorKind::NotFound,
            Self::Locked(_) | Self::Full(_) => false,
        }
    }

    /// With its cause, in one line.
    #[must_use]
    pub fn whole(&self) -> String {
        let cause = std::error::Error::source(self).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{self}{cause}")
    }

    /// For whoever has to do something about it: what the matter is, and what to do.
    #[must_use]
    pub fn advice(&self, state_dir: &Path) -> String {
        let dir = state_dir.display();
        let kind = match self {
            Self::Database(sled::Error::Io(error)) | Self::Io { source: error, .. } => Some(error.kind()),
            Self::Full(_) => Some(ErrorKind::StorageFull),
            _ => None,
        };
        match kind {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                format!("the disk of {dir} is full; make room there, and it goes on by itself")
            }
            Some(ErrorKind::ReadOnlyFilesystem) => {
                format!(
                    "the disk of {dir} is read-only, which a failing disk becomes; look at the host's kernel log, repair the \
                         file system and mount it writable, then it goes on by itself"
                )
            }
            _ => format!("the ledger in {dir} takes no write ({}); look at the disk", self.whole()),
        }
    }
}

fn quarantine(dir: &Path) -> std::io::Result<PathBuf> {
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let aside = dir.with_extension(format!("bad-{stamp}"));
    std::fs::rename(dir, &aside)?;
    match std::fs::remove_file(witness_path(dir)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (Some(parent), Some(stem)) = (dir.parent(), dir.file_stem().and_then(|stem| stem.to_str())) else {
        return Ok(aside);
    };
    let prefix = format!("{stem}.bad-");
    let mut old: Vec<PathBuf> = std::fs::read_dir(parent)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix)))
        .collect();
    old.sort();
    let surplus = old.len().saturating_sub(QUARANTINED_MAX);
    for path in old.into_iter().take(surplus) {
        let _ = std::fs::remove_dir_all(path);
    }
    Ok(aside)
}
