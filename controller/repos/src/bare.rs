//! A bare repository as a handle for many threads: reading by commit, writing commits.
//!
//! A git2 repository may move between threads but not be shared, so the handle keeps a few open
//! ones and hands each call one of them. What a call left in an odd condition (an error of git) is
//! not handed out again. Reads go commit → tree → blob by hash and never list refs.

use crate::cache::locked;
use crate::error::{Doing, Error, Result};
use crate::refs::{self, CommitId, check_path};
use crate::upstream::{Move, Scope, Upstream};
use git2::build::TreeUpdateBuilder;
use git2::{Commit, ErrorCode, FileMode, ObjectType, Oid, Repository, Signature, Tree, TreeEntry};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// Most bytes of one file, read or written: scripts, modules and configs are far below; an archive
/// does not belong in these repositories.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Most entries of one listing.
const ENTRIES_MAX: usize = 10_000;
/// Most changes of one commit: an import of a whole payload fits.
pub(crate) const CHANGES_MAX: usize = 10_000;
/// Repositories kept open: more than the calls that run at once on the machines we aim at.
const IDLE_MAX: usize = 8;
/// Longest message of a commit.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Longest author line.
const AUTHOR_BYTES_MAX: usize = 256;
/// Attempts of a write that need not start from a given commit; each lost one means that a git
/// command of somebody else made progress.
const ATTEMPTS_MAX: usize = 16;
/// Mode of an executable file in a tree entry.
pub(crate) const EXECUTABLE: i32 = 0o100_755;

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Creates or replaces a file.
    Put {
        /// Where.
        path: String,
        /// What.
        content: Vec<u8>,
        /// `None`: as it was; a new file is executable if it begins with `#!`.
        executable: Option<bool>,
    },
    /// Removes a file that exists.
    Remove {
        /// Where.
        path: String,
    },
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// A folder, not a file.
    pub folder: bool,
    /// A file that may be run.
    pub executable: bool,
    /// Bytes; 0 for a folder.
    pub size: u64,
}

/// A bare repository.
#[derive(Clone)]
pub(crate) struct Bare(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    idle: Mutex<Vec<Repository>>,
    upstream: OnceLock<Upstream>,
}

impl Bare {
    /// Opens an existing bare repository.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let repo = Repository::open_bare(dir).doing(|| format!("opening the git repository {}", dir.display()))?;
        Ok(Self(Arc::new(Inner { dir: dir.to_owned(), idle: Mutex::new(vec![repo]), upstream: OnceLock::new() })))
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The server that has to have everything first, if there is one.
    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.0.upstream.get()
    }

    pub(crate) fn set_upstream(&self, upstream: Upstream) {
        // a repository is given its upstream once, when it is opened
        let _ = self.0.upstream.set(upstream);
    }

    /// Closes what is kept open.
    pub(crate) fn close(&self) {
        locked(&self.0.idle).clear();
    }

    /// Runs `work` with an open repository.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Repository) -> Result<T>) -> Result<T> {
        let spare = locked(&self.0.idle).pop();
        let repo = match spare {
            Some(repo) => repo,
            None => Repository::open_bare(&self.0.dir).doing(|| format!("opening {}", self.0.dir.display()))?,
        };
        let outcome = work(&repo);
        if !matches!(outcome, Err(Error::Git { .. })) {
            let mut idle = locked(&self.0.idle);
            if idle.len() < IDLE_MAX {
                idle.push(repo);
            }
        }
        outcome
    }

    /// Runs `work` with a repository of its own whose new objects stay in memory and are gone after.
    pub(crate) fn imagine<T>(&self, work: impl FnOnce(&Repository) -> Result<T>) -> Result<T> {
        let doing = || format!("opening {}", self.0.dir.display());
        let repo = Repository::open_bare(&self.0.dir).doing(doing)?;
        let odb = repo.odb().doing(doing)?;
        // asked first, so it takes what is written
        let _memory = odb.add_new_mempack_backend(1000).doing(doing)?;
        work(&repo)
    }

    /// The commit a branch points to.
    pub(crate) fn branch(&self, name: &str) -> Result<Option<CommitId>> {
        let name = refs::branch_ref(name)?;
        self.with(|repo| Ok(refs::target(repo, &name)?.map(CommitId::from)))
    }

    /// The commit of master.
    pub(crate) fn head(&self) -> Result<CommitId> {
        self.branch(refs::MASTER)?.ok_or_else(|| {
            Error::not_found(
                format!("branch master in {}", self.0.dir.display()),
                "restore the repository from its backup",
            )
        })
    }

    pub(crate) fn read(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<u8>>> {
        check_path(path)?;
        self.with(|repo| read_in(repo, &tree_of(repo, commit)?, path))
    }

    pub(crate) fn list(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<Entry>>> {
        if !path.is_empty() {
            check_path(path)?;
        }
        self.with(|repo| list_in(repo, &tree_of(repo, commit)?, path))
    }

    /// Adds a commit to a branch; see [`crate::ConfigRepo::commit`].
    pub(crate) fn commit(
        &self,
        branch: &str,
        expect: Option<&CommitId>,
        changes: &[Change],
        message: &str,
        author: &str,
    ) -> Result<CommitId> {
        check_changes(changes)?;
        self.commit_with(branch, expect, message, author, |repo, base| apply(repo, base, changes))
    }

    /// Adds a commit whose tree `make` derives from the newest one; retries lost races unless a
    /// starting point is given.
    pub(crate) fn commit_with(
        &self,
        branch: &str,
        expect: Option<&CommitId>,
        message: &str,
        author: &str,
        make: impl Fn(&Repository, &Tree<'_>) -> Result<Oid>,
    ) -> Result<CommitId> {
        self.commit_of(branch, expect, None, message, author, make)
    }

    /// As [`Self::commit_with`], for what comes from another commit, which becomes the second parent.
    pub(crate) fn commit_from(
        &self,
        branch: &str,
        expect: Option<&CommitId>,
        from: Oid,
        message: &str,
        author: &str,
        make: impl Fn(&Repository, &Tree<'_>) -> Result<Oid>,
    ) -> Result<CommitId> {
        self.commit_of(branch, expect, Some(from), message, author, make)
    }

    fn commit_of(
        &self,
        branch: &str,
        expect: Option<&CommitId>,
        from: Option<Oid>,
        message: &str,
        author: &str,
        make: impl Fn(&Repository, &Tree<'_>) -> Result<Oid>,
    ) -> Result<CommitId> {
        let name = refs::branch_ref(branch)?;
        let expect = expect.map(CommitId::oid).transpose()?;
        let author = signature(author)?;
        check_message(message)?;
        let _turn = self.turn()?;
        for attempt in 1.. {
            self.refresh(Scope::Branch(branch))?;
            let outcome = self.with(|repo| {
                let tip = refs::target(repo, &name)?.ok_or_else(|| {
                    Error::not_found(
                        format!("branch {branch}"),
                        "check the name; a topology's branch exists as long as the topology",
                    )
                })?;
                // checked again under the lock of the ref
                if expect.is_some_and(|oid| oid != tip) {
                    return refs::swap(repo, &name, expect, Some(tip), message).map(|()| tip.into());
                }
                let parent = repo.find_commit(tip).doing(|| format!("reading commit {tip}"))?;
                let base = parent.tree().doing(|| format!("reading the tree of {tip}"))?;
                let tree = make(repo, &base)?;
                if tree == base.id() {
                    return Ok(tip.into());
                }
                let from = from.map(|oid| repo.find_commit(oid)).transpose();
                let from = from.doing(|| "reading the commit that this comes from")?;
                let parents: Vec<_> = std::iter::once(&parent).chain(&from).collect();
                let new = store_commit(repo, tree, &parents, message, &author)?;
                self.publish(repo, &[Move { name: name.clone(), old: Some(tip), new: Some(new) }], "commit")?;
                Ok(new.into())
            });
            match outcome {
                Err(Error::Conflict { .. }) if expect.is_none() && attempt < ATTEMPTS_MAX => {}
                other => return other,
            }
        }
        unreachable!("the loop ends with a return")
    }

    /// Waits for the turn to write; it ends when the file is dropped, or its process dies.
    ///
    /// A kernel lock on the folder orders all writers that are ours, in any thread or process, so
    /// that none starves by losing every race. Other git commands do not know it and are met by
    /// compare-and-swap alone.
    pub(crate) fn turn(&self) -> Result<File> {
        let doing = || format!("waiting to write to {}", self.0.dir.display());
        let folder = File::open(&self.0.dir).doing(doing)?;
        folder.lock().doing(doing)?;
        Ok(folder)
    }
}

/// The tree of a commit.
pub(crate) fn tree_of<'r>(repo: &'r Repository, commit: &CommitId) -> Result<Tree<'r>> {
    match repo.find_commit(commit.oid()?).and_then(|commit| commit.tree()) {
        Ok(tree) => Ok(tree),
        Err(error) if error.code() == ErrorCode::NotFound => {
            Err(Error::not_found(format!("commit {commit}"), "use a commit of this repository"))
        }
        Err(source) => Err(Error::Git { doing: format!("reading commit {commit}"), source }),
    }
}

/// What stands at a path of a tree.
pub(crate) fn entry_in(tree: &Tree<'_>, path: &str) -> Result<Option<TreeEntry<'static>>> {
    match tree.get_path(Path::new(path)) {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(source) => Err(Error::Git { doing: format!("looking up {path}"), source }),
    }
}

/// The folder at a path of a tree; `None` if there is none or it is a file.
pub(crate) fn folder_in<'r>(repo: &'r Repository, tree: &Tree<'_>, path: &str) -> Result<Option<Tree<'r>>> {
    match entry_in(tree, path)? {
        Some(entry) if entry.kind() == Some(ObjectType::Tree) => {
            repo.find_tree(entry.id()).doing(|| format!("reading {path}")).map(Some)
        }
        _ => Ok(None),
    }
}

/// The content of the file at a path of a tree.
pub(crate) fn read_in(repo: &Repository, tree: &Tree<'_>, path: &str) -> Result<Option<Vec<u8>>> {
    let Some(entry) = entry_in(tree, path)? else { return Ok(None) };
    if entry.kind() != Some(ObjectType::Blob) || entry.filemode() == i32::from(FileMode::Link) {
        return Err(Error::invalid(path, "is a folder or a link; name a regular file"));
    }
    let doing = || format!("reading {path}");
    // the size first: a huge file is refused without loading it
    let (size, _) = repo.odb().and_then(|odb| odb.read_header(entry.id())).doing(doing)?;
    if size > FILE_BYTES_MAX {
        return Err(Error::invalid(path, format!("has {size} bytes; at most {FILE_BYTES_MAX} are read")));
    }
    repo.find_blob(entry.id()).doing(doing).map(|blob| Some(blob.content().to_vec()))
}

fn list_in(repo: &Repository, top: &Tree<'_>, path: &str) -> Result<Option<Vec<Entry>>> {
    let found;
    let folder = if path.is_empty() {
        top
    } else {
        let Some(tree) = folder_in(repo, top, path)? else { return Ok(None) };
        found = tree;
        &found
    };
    if folder.len() > ENTRIES_MAX {
        return Err(Error::invalid(path, format!("has {} entries; at most {ENTRIES_MAX} are listed", folder.len())));
    }
    let odb = repo.odb().doing(|| "opening the object store")?;
    let mut entries = Vec::with_capacity(folder.len());
    for entry in folder.iter() {
        let is_folder = entry.kind() == Some(ObjectType::Tree);
        let size = match entry.kind() {
            Some(ObjectType::Blob) => {
                odb.read_header(entry.id()).doing(|| format!("reading an entry of {path}"))?.0 as u64
            }
            _ => 0,
        };
        let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
        entries.push(Entry { name, folder: is_folder, executable: entry.filemode() == EXECUTABLE, size });
    }
    Ok(Some(entries))
}

/// Writes a commit object; no ref is touched.
pub(crate) fn store_commit(
    repo: &Repository,
    tree: Oid,
    parents: &[&Commit<'_>],
    message: &str,
    author: &Signature<'_>,
) -> Result<Oid> {
    let doing = || format!("writing a commit to {}", repo.path().display());
    let tree = repo.find_tree(tree).doing(doing)?;
    repo.commit(None, author, author, message, &tree, parents).doing(doing)
}

/// Whether a new file is made executable.
pub(crate) fn is_script(content: &[u8]) -> bool {
    content.starts_with(b"#!")
}

/// Mode of a file in a tree.
pub(crate) fn mode(executable: bool) -> FileMode {
    if executable { FileMode::BlobExecutable } else { FileMode::Blob }
}

pub(crate) fn check_changes(changes: &[Change]) -> Result<()> {
    if changes.len() > CHANGES_MAX {
        return Err(Error::invalid(
            "commit",
            format!("has {} changes; at most {CHANGES_MAX} are allowed", changes.len()),
        ));
    }
    for change in changes {
        match change {
            Change::Put { path, content, .. } => {
                check_path(path)?;
                if content.len() > FILE_BYTES_MAX {
                    return Err(Error::invalid(
                        path,
                        format!("has {} bytes; at most {FILE_BYTES_MAX} are allowed", content.len()),
                    ));
                }
            }
            Change::Remove { path } => check_path(path)?,
        }
    }
    Ok(())
}

/// The tree with all changes, on top of `base`.
pub(crate) fn apply(repo: &Repository, base: &Tree<'_>, changes: &[Change]) -> Result<Oid> {
    let mut update = TreeUpdateBuilder::new();
    for change in changes {
        let (Change::Put { path, .. } | Change::Remove { path }) = change;
        check_place(base, path)?;
        let before = entry_in(base, path)?;
        match change {
            Change::Put { content, executable, .. } => {
                let was = before.map(|entry| entry.filemode() == EXECUTABLE);
                let blob = repo.blob(content).doing(|| format!("storing {path}"))?;
                update.upsert(path.as_str(), blob, mode(executable.or(was).unwrap_or_else(|| is_script(content))));
            }
            Change::Remove { .. } if before.is_none() => {
                return Err(Error::not_found(format!("file {path}"), "check the path and the branch"));
            }
            Change::Remove { .. } => {
                update.remove(path.as_str());
            }
        }
    }
    update.create_updated(repo, base).doing(|| format!("writing a tree to {}", repo.path().display()))
}

/// A file may not take the place of a folder, nor stand below a file.
fn check_place(base: &Tree<'_>, path: &str) -> Result<()> {
    let above = path.match_indices('/').map(|(end, _)| &path[..end]);
    for folder in above {
        match entry_in(base, folder)? {
            Some(entry) if entry.kind() != Some(ObjectType::Tree) => {
                return Err(Error::invalid(path, format!("cannot stand below the file {folder}")));
            }
            Some(_) => {}
            None => return Ok(()),
        }
    }
    match entry_in(base, path)? {
        Some(entry) if entry.kind() == Some(ObjectType::Tree) => Err(Error::invalid(path, "is a folder; name a file")),
        _ => Ok(()),
    }
}

/// Refuses what cannot be the message of a commit or tag.
pub(crate) fn check_message(message: &str) -> Result<()> {
    let odd = |c: char| c.is_control() && c != '\n';
    if message.trim().is_empty() || message.len() > MESSAGE_BYTES_MAX || message.contains(odd) {
        let want = format!("must be text of 1 to {MESSAGE_BYTES_MAX} bytes without control characters");
        return Err(Error::invalid("message", want));
    }
    Ok(())
}

/// `Name <mail>` or a bare name.
pub(crate) fn signature(author: &str) -> Result<Signature<'static>> {
    let (name, mail) = match author.split_once('<') {
        Some((name, rest)) => (name.trim(), rest.strip_suffix('>').unwrap_or("")),
        None => (author.trim(), "straas@localhost"),
    };
    let odd = |text: &str| text.is_empty() || text.contains(['<', '>']);
    if author.len() > AUTHOR_BYTES_MAX || author.contains(char::is_control) || odd(name) || odd(mail) {
        let want = format!("must be `Name <mail>` or a name, at most {AUTHOR_BYTES_MAX} bytes");
        return Err(Error::invalid("author", want));
    }
    Signature::now(name, mail).doing(|| "making the author of a commit")
}
