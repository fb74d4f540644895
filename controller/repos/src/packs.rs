//! Packs: what a node lacks between the commit it has and the one it wants, as one file.
//!
//! A pack is made once per (have → want) pair, however many nodes ask at once, and kept on disk
//! until newer ones need the room. Each has a sidecar with its length and SHA-256; a file that does
//! not match is made again. Only commits reachable from `master` are served: an agent cannot fetch
//! what was never released. A pack that somebody still holds is never removed.

use crate::cache::locked;
use crate::error::{Doing, Error, Result};
use crate::refs::{self, CommitId};
use crate::scripts::ScriptRepo;
use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use straas_schemas::Digest;

/// Most bytes of packs kept on disk.
const BYTES_MAX: u64 = 256 << 20;
/// Most packs kept on disk: (have → want) pairs of a fleet whose nodes are many commits apart.
const COUNT_MAX: usize = 128;
/// Most bytes of a sidecar: it holds four short fields.
const SIDECAR_BYTES_MAX: u64 = 4096;
/// Bytes hashed at a time when a pack is read back.
const READ_BYTES: usize = 64 * 1024;

/// How much is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackLimits {
    /// Most bytes of all packs; the newest one and those in use stay whatever their size.
    pub bytes_max: u64,
    /// Most packs.
    pub count_max: usize,
}

impl Default for PackLimits {
    fn default() -> Self {
        Self { bytes_max: BYTES_MAX, count_max: COUNT_MAX }
    }
}

/// A pack on disk. Keep it while its file is being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// The file, in git's pack format.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Git objects in it.
    pub objects: usize,
    /// The commit it builds on; `None`: everything is in it.
    pub have: Option<CommitId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    len: u64,
    sha256: Digest,
    objects: usize,
}

type Pair = (Oid, Option<Oid>);
/// Empty until the first caller, who holds the lock meanwhile, has made the pack.
type Slot = Arc<Mutex<Option<Arc<Pack>>>>;

/// Handle to the packs of a script repo.
#[derive(Clone)]
pub struct Packs(Arc<Inner>);

struct Inner {
    repo: ScriptRepo,
    dir: PathBuf,
    limits: PackLimits,
    slots: Mutex<BTreeMap<Pair, Slot>>,
    // head and the commits known to be reachable from it
    released: Mutex<(Option<Oid>, BTreeSet<Oid>)>,
    builds: AtomicU64,
}

impl Packs {
    /// Keeps packs of `repo` in the folder `dir`, with the usual limits.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made or read.
    pub fn open(repo: &ScriptRepo, dir: &Path) -> Result<Self> {
        Self::with_limits(repo, dir, PackLimits::default())
    }

    /// Keeps packs of `repo` in the folder `dir`, which must be used for nothing else.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made or read.
    pub fn with_limits(repo: &ScriptRepo, dir: &Path, limits: PackLimits) -> Result<Self> {
        let doing = || format!("preparing {}", dir.display());
        fs::create_dir_all(dir).doing(doing)?;
        for entry in fs::read_dir(dir).doing(doing)? {
            let entry = entry.doing(doing)?;
            if entry.file_name().to_string_lossy().ends_with(".tmp") {
                fs::remove_file(entry.path())
                    .doing(|| format!("removing {}, left by a crash", entry.path().display()))?;
            }
        }
        let inner = Inner {
            repo: repo.clone(),
            dir: dir.to_owned(),
            limits,
            slots: Mutex::default(),
            released: Mutex::default(),
            builds: AtomicU64::new(0),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The pack that takes a node from `have` to `want`; without `have`, or with one that this
    /// repository does not know, everything up to `want`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if `want` is not a commit reachable from `master`.
    pub fn pack(&self, want: &CommitId, have: Option<&CommitId>) -> Result<Arc<Pack>> {
        let head = self.0.repo.head()?.oid()?;
        let want_oid = want.oid()?;
        let have = have.map(CommitId::oid).transpose()?;
        self.0.repo.bare().with(|repo| {
            if !self.0.is_released(repo, head, want_oid)? {
                return Err(Error::not_found(
                    format!("commit {want} on master of the script repo"),
                    "ask for a commit that was released; one that was removed from master's history is not served",
                ));
            }
            let mut known = None;
            if let Some(have) = have
                && self.0.is_released(repo, head, have)?
            {
                known = Some(have);
            }
            self.0.get(repo, (want_oid, known))
        })
    }

    /// Packs made since the start, for metrics.
    #[must_use]
    pub fn builds(&self) -> u64 {
        self.0.builds.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn is_released(&self, repo: &Repository, head: Oid, commit: Oid) -> Result<bool> {
        if commit == head {
            return Ok(true);
        }
        {
            let mut known = locked(&self.released);
            if known.0 != Some(head) {
                // reachable from the old head says nothing once history was rewritten
                *known = (Some(head), BTreeSet::new());
            }
            if known.1.contains(&commit) {
                return Ok(true);
            }
        }
        let reachable = refs::reaches(repo, head, commit)?;
        let mut known = locked(&self.released);
        // as many as there are commits on master; only real commits get here
        if reachable && known.0 == Some(head) {
            known.1.insert(commit);
        }
        Ok(reachable)
    }

    fn get(&self, repo: &Repository, pair: Pair) -> Result<Arc<Pack>> {
        let slot = Arc::clone(locked(&self.slots).entry(pair).or_default());
        // whoever comes first makes the pack, the others wait here for it
        let mut held = locked(&slot);
        if let Some(pack) = held.as_ref()
            && fs::metadata(&pack.path).is_ok_and(|meta| meta.len() == pack.len)
        {
            touch(&pack.path);
            return Ok(Arc::clone(pack));
        }
        let pack = match self.load(pair) {
            Some(pack) => pack,
            None => self.build(repo, pair)?,
        };
        touch(&pack.path);
        let pack = Arc::new(pack);
        *held = Some(Arc::clone(&pack));
        drop(held);
        self.make_room(pair)?;
        Ok(pack)
    }

    fn path(&self, (want, have): Pair) -> PathBuf {
        let have = have.map_or_else(|| "full".to_owned(), |oid| oid.to_string());
        self.dir.join(format!("{want}-{have}.pack"))
    }

    /// A pack of an earlier run, if it is there and whole.
    fn load(&self, pair: Pair) -> Option<Pack> {
        let path = self.path(pair);
        let side_path = sidecar(&path);
        if fs::metadata(&side_path).ok()?.len() > SIDECAR_BYTES_MAX {
            return None;
        }
        let side: Sidecar = serde_json::from_slice(&fs::read(&side_path).ok()?).ok()?;
        let found = sha256_of(&path).ok()?;
        if found != (side.len, side.sha256.clone()) {
            tracing::warn!(file = %path.display(), "a cached pack is damaged; it is made again");
            return None;
        }
        let have = pair.1.map(CommitId::from);
        Some(Pack { path, len: side.len, sha256: side.sha256, objects: side.objects, have })
    }

    fn build(&self, repo: &Repository, pair: Pair) -> Result<Pack> {
        let (want, have) = pair;
        let path = self.path(pair);
        let doing = || format!("making the pack {}", path.display());
        self.builds.fetch_add(1, Ordering::Relaxed);
        let mut builder = repo.packbuilder().doing(doing)?;
        builder.set_threads(1);
        let mut walk = repo.revwalk().doing(doing)?;
        walk.push(want).doing(doing)?;
        if let Some(have) = have {
            walk.hide(have).doing(doing)?;
        }
        builder.insert_walk(&mut walk).doing(doing)?;
        let objects = builder.object_count();
        let work = path.with_extension("pack.tmp");
        let mut file = File::create(&work).doing(doing)?;
        let (mut hash, mut len, mut failed) = (Sha256::new(), 0u64, None);
        let written = builder.foreach(|bytes| {
            hash.update(bytes);
            len += bytes.len() as u64;
            failed = file.write_all(bytes).err();
            failed.is_none()
        });
        if let Some(source) = failed {
            return Err(Error::Io { doing: doing(), source });
        }
        written.doing(doing)?;
        file.sync_all().doing(doing)?;
        let sha256 = digest(hash);
        let side = Sidecar { len, sha256: sha256.clone(), objects };
        put(&sidecar(&path), &serde_json::to_vec(&side).unwrap_or_default()).doing(doing)?;
        fs::rename(&work, &path).doing(doing)?;
        tracing::debug!(%want, have = ?have, objects, len, "made a pack");
        Ok(Pack { path, len, sha256, objects, have: have.map(CommitId::from) })
    }

    /// Removes the packs used longest ago until the limits hold; never one in use or just asked for.
    fn make_room(&self, asked: Pair) -> Result<()> {
        let doing = || format!("making room in {}", self.dir.display());
        let mut slots = locked(&self.slots);
        let mut kept = BTreeSet::from([self.path(asked)]);
        slots.retain(|pair, slot| {
            let alone = Arc::strong_count(slot) == 1;
            let unused = alone && locked(slot).as_ref().is_none_or(|pack| Arc::strong_count(pack) == 1);
            if !unused {
                kept.insert(self.path(*pair));
            }
            // an empty slot belongs to a failed build
            !alone || locked(slot).is_some()
        });
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).doing(doing)? {
            let entry = entry.doing(doing)?;
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "pack") {
                let meta = entry.metadata().doing(doing)?;
                found.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), path));
            }
        }
        found.sort();
        let (mut count, mut bytes) = (found.len(), found.iter().map(|(_, len, _)| len).sum::<u64>());
        for (_, len, path) in found {
            if count <= self.limits.count_max && bytes <= self.limits.bytes_max {
                break;
            }
            if kept.contains(&path) {
                continue;
            }
            slots.retain(|pair, _| self.path(*pair) != path);
            fs::remove_file(&path).doing(doing)?;
            // without its pack a sidecar is harmless; a crash here leaves one
            let _ = fs::remove_file(sidecar(&path));
            (count, bytes) = (count - 1, bytes - len);
        }
        Ok(())
    }
}

fn sidecar(pack: &Path) -> PathBuf {
    pack.with_extension("json")
}

/// Marks a pack as used now; if that fails it is only removed sooner.
fn touch(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Writes a file whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let work = path.with_extension("json.tmp");
    let mut file = File::create(&work)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&work, path)
}

fn sha256_of(path: &Path) -> std::io::Result<(u64, Digest)> {
    let mut file = BufReader::with_capacity(READ_BYTES, File::open(path)?);
    let (mut hash, mut len, mut buffer) = (Sha256::new(), 0u64, vec![0; READ_BYTES]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((len, digest(hash)));
        }
        hash.update(buffer.get(..n).unwrap_or_default());
        len += n as u64;
    }
}

fn digest(hash: Sha256) -> Digest {
    let hex: Vec<String> = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Digest(hex.concat())
}
