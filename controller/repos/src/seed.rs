//! The payload in the binary, and the first start of a repository.
//!
//! A repository is made in a folder beside its place, synced to the disk and renamed into place:
//! a crash leaves either nothing or all of it. The first commit depends on the payload alone (its
//! author, time and modes are fixed), so equal payloads have equal commits on every machine.
//! Never touches a repository that exists.

use crate::bare::{Bare, is_script, mode, store_commit};
use crate::error::{Doing, Error, Result};
use crate::refs::{MASTER, check_path};
use git2::build::TreeUpdateBuilder;
use git2::{Buf, Oid, Repository, RepositoryInitOptions, Signature, Time};
use rust_embed::RustEmbed;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use straas_schemas::config::ConfigFile;

/// Time of the first commit, 2017-01-01T00:00:00Z: the same everywhere.
pub(crate) const SEED_TIME_S: i64 = 1_483_228_800;
/// A live git process holds a lock file for milliseconds; one that outlasts this is of a dead one.
const LOCK_LIVES: Duration = Duration::from_millis(250);

#[derive(RustEmbed)]
#[folder = "../../proxy-scripts"]
struct ProxyScripts;

#[derive(RustEmbed)]
#[folder = "../../puppet"]
struct Puppet;

#[derive(RustEmbed)]
#[folder = "../../guestcmds"]
struct GuestCommands;

#[derive(RustEmbed)]
#[folder = "defaults"]
struct Defaults;

/// Files by path.
pub(crate) type Payload = BTreeMap<String, Vec<u8>>;

/// What of `proxy-scripts/` goes to the top of a script repo: what nodes run, and what explains it.
const SCRIPT_TOPS: [&str; 5] = ["README.md", "cmd", "pre_config", "schema", "examples"];

/// What a script repo begins with: [`SCRIPT_TOPS`], `puppet/` and `guestcmds/`.
pub(crate) fn scripts() -> Payload {
    let mut files = Payload::new();
    add::<ProxyScripts>(&mut files, "", |path| SCRIPT_TOPS.contains(&path.split('/').next().unwrap_or_default()));
    add::<Puppet>(&mut files, "puppet/", |_| true);
    add::<GuestCommands>(&mut files, "guestcmds/", |_| true);
    files
}

/// What a config repo begins with: `metadata/ app/ service/ schema/`.
pub(crate) fn configs() -> Payload {
    let mut files = Payload::new();
    add::<Defaults>(&mut files, "", |_| true);
    files
}

/// The built-in declarations of the service's settings.
pub(crate) fn service_default() -> ConfigFile {
    let file = Defaults::get("service/default.json").and_then(|file| serde_json::from_slice(&file.data).ok());
    // a test reads what is built in
    file.unwrap_or_else(crate::history::empty)
}

fn add<E: RustEmbed>(files: &mut Payload, below: &str, wanted: impl Fn(&str) -> bool) {
    for path in E::iter().filter(|path| wanted(path) && !is_byproduct(path)) {
        if let Some(file) = E::get(&path) {
            files.insert(format!("{below}{path}"), file.data.into_owned());
        }
    }
}

/// Tests and leftovers of tools do not travel to nodes.
pub(crate) fn is_byproduct(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "spec" | "__pycache__") || part.starts_with('.'))
        || path.ends_with(".pyc")
        || path.ends_with('~')
}

/// Opens the repository at `dir`, making it with one commit of `payload` if there is none.
pub(crate) fn open_or_seed(dir: &Path, payload: fn() -> Payload, message: &str) -> Result<Bare> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(Error::invalid(dir.display().to_string(), "is not a place for a repository; name a folder"));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    fs::create_dir_all(parent).doing(|| format!("making the folder {}", parent.display()))?;
    // a kernel lock: of two controllers that start at once, one seeds and the other waits
    let gate = File::open(parent).doing(|| format!("opening {}", parent.display()))?;
    gate.lock().doing(|| format!("locking {}", parent.display()))?;
    if is_vacant(dir)? {
        let mut unfinished = name.to_owned();
        unfinished.push(".unfinished");
        let work = parent.join(unfinished);
        if work.exists() {
            fs::remove_dir_all(&work).doing(|| format!("removing {}, left by a crash", work.display()))?;
        }
        build(&work, &payload(), message)?;
        fs::rename(&work, dir).doing(|| format!("renaming {} to {}", work.display(), dir.display()))?;
        gate.sync_all().doing(|| format!("syncing {}", parent.display()))?;
        tracing::info!(dir = %dir.display(), "made a git repository from the built-in payload");
    } else {
        remove_dead_locks(dir)?;
    }
    let bare = Bare::open(dir)?;
    bare.head()?;
    Ok(bare)
}

fn is_vacant(dir: &Path) -> Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(Error::Io { doing: format!("reading {}", dir.display()), source }),
    }
}

fn build(dir: &Path, payload: &Payload, message: &str) -> Result<()> {
    let doing = || format!("making the git repository {}", dir.display());
    let mut options = RepositoryInitOptions::new();
    options.bare(true).no_reinit(true).mkpath(true).external_template(false).initial_head(MASTER);
    // objects are collected in memory and stored as one pack: three files to sync, not hundreds
    let mut pack = Buf::new();
    let commit = {
        let repo = Repository::init_opts(dir, &options).doing(doing)?;
        let odb = repo.odb().doing(doing)?;
        let memory = odb.add_new_mempack_backend(1000).doing(doing)?;
        let commit = first_commit(&repo, payload, message)?;
        memory.dump(&repo, &mut pack).doing(doing)?;
        commit
    };
    let repo = Repository::open_bare(dir).doing(doing)?;
    let odb = repo.odb().doing(doing)?;
    let mut writer = odb.packwriter().doing(doing)?;
    writer.write_all(&pack).doing(doing)?;
    writer.commit().doing(doing)?;
    let mut config = repo.config().doing(doing)?;
    // an answered write has reached the disk
    config.set_bool("core.fsyncObjectFiles", true).doing(doing)?;
    repo.reference(&format!("refs/heads/{MASTER}"), commit, false, message).doing(doing)?;
    sync_tree(dir).doing(|| format!("syncing {}", dir.display()))
}

fn first_commit(repo: &Repository, payload: &Payload, message: &str) -> Result<Oid> {
    let doing = || "writing the first commit";
    let mut update = TreeUpdateBuilder::new();
    for (path, content) in payload {
        check_path(path)?;
        let blob = repo.blob(content).doing(doing)?;
        update.upsert(path.as_str(), blob, mode(is_script(content)));
    }
    let empty = repo.treebuilder(None).and_then(|builder| builder.write()).doing(doing)?;
    let empty = repo.find_tree(empty).doing(doing)?;
    let tree = update.create_updated(repo, &empty).doing(doing)?;
    let author = Signature::new("StraaS", "straas@localhost", &Time::new(SEED_TIME_S, 0)).doing(doing)?;
    store_commit(repo, tree, &[], message, &author)
}

fn sync_tree(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_tree(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()
}

/// Removes lock files that a killed process left behind; they would block their refs for ever.
pub(crate) fn remove_dead_locks(dir: &Path) -> Result<()> {
    let doing = || format!("looking for lock files in {}", dir.display());
    let found = locks(dir).doing(doing)?;
    if found.is_empty() {
        return Ok(());
    }
    // whose lock it is cannot be asked; whether it is still the same one can
    std::thread::sleep(LOCK_LIVES);
    let now = locks(dir).doing(doing)?;
    for (path, _) in now.iter().filter(|(path, identity)| found.get(*path) == Some(*identity)) {
        fs::remove_file(path).doing(|| format!("removing {}", path.display()))?;
        tracing::warn!(file = %path.display(), "removed a lock that a killed process left behind");
    }
    Ok(())
}

type Locks = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

fn locks(dir: &Path) -> std::io::Result<Locks> {
    let mut found = Locks::new();
    let mut folders = vec![dir.join("refs")];
    let mut look = |path: PathBuf| {
        if let Ok(meta) = fs::symlink_metadata(&path) {
            found.insert(path, (meta.ino(), meta.modified().ok()));
        }
    };
    for name in ["HEAD.lock", "config.lock", "packed-refs.lock"] {
        look(dir.join(name));
    }
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().ends_with(".lock") {
                look(entry.path());
            }
        }
    }
    Ok(found)
}
