//! Names and refs: what may be a branch or a path, and how a ref is moved.
//!
//! Every name that reaches git passes one of the checks here first; git's own rule has the last
//! word. A ref is moved by compare-and-swap under git's lock file, so that other processes (an
//! operator's push) and other threads are both respected. Refs are looked up by name, never listed.

use crate::error::{Doing, Error, Result};
use git2::{ErrorCode, Oid, Reference, Repository, Signature};
use std::fmt;
use std::time::{Duration, Instant};
use straas_schemas::configuration::TAG_BYTES_MAX;
use straas_schemas::ids::{TOPOLOGY_NAME_MAX, ZONE_NAME_MAX, name_fault};

/// The branch that defaults, metadata and scripts stand on.
pub(crate) const MASTER: &str = "master";
/// Longest path in a repository: far below PATH_MAX with any checkout folder in front.
pub(crate) const PATH_BYTES_MAX: usize = 512;
/// Longest part of a path: what file systems allow, minus room for `.tmp` names.
pub(crate) const SEGMENT_BYTES_MAX: usize = 128;
/// Deepest path: a tree walk's stack stays small.
pub(crate) const PATH_DEPTH_MAX: usize = 16;
/// How long another process may hold the lock of a ref; git holds it for milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Pause between two looks at a lock of another process, which cannot be awaited.
const LOCK_LOOK: Duration = Duration::from_millis(2);

/// A commit by its full hash (40 lower-case hex digits).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(String);

impl CommitId {
    /// Reads 40 hex digits.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else: short hashes and ref names are not accepted.
    pub fn parse(text: &str) -> Result<Self> {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() == 40 && digits {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(
                "commit",
                format!("{:?} is not a commit; give all 40 lower-case hex digits", shown(text)),
            ))
        }
    }

    /// The hash as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn oid(&self) -> Result<Oid> {
        Oid::from_str(&self.0).doing(|| format!("reading the commit id {}", self.0))
    }
}

impl From<Oid> for CommitId {
    fn from(oid: Oid) -> Self {
        Self(oid.to_string())
    }
}

impl From<CommitId> for String {
    fn from(commit: CommitId) -> Self {
        commit.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The start of a refused text, for a message: whatever was sent, the answer stays short.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The ref of a topology's branch, `name@az`.
pub(crate) fn topology_ref(branch: &str) -> Result<String> {
    let refuse = |why: String| Err(Error::invalid("branch", format!("{:?}: {why}", shown(branch))));
    let Some((name, zone)) = branch.split_once('@') else {
        return refuse("a topology's branch is called name@zone".into());
    };
    if let Some(why) = name_fault("the name before '@'", name, TOPOLOGY_NAME_MAX)
        .or_else(|| name_fault("the zone after '@'", zone, ZONE_NAME_MAX))
    {
        return refuse(why);
    }
    checked_ref(format!("refs/heads/{branch}"), branch)
}

/// The ref of any branch: a topology's, or an operator's such as `master` or `develop`.
pub(crate) fn branch_ref(branch: &str) -> Result<String> {
    if branch.contains('@') {
        return topology_ref(branch);
    }
    match name_fault("the branch", branch, TOPOLOGY_NAME_MAX) {
        Some(why) => Err(Error::invalid("branch", format!("{:?}: {why}", shown(branch)))),
        None => checked_ref(format!("refs/heads/{branch}"), branch),
    }
}

fn checked_ref(name: String, branch: &str) -> Result<String> {
    let fine = Reference::is_valid_name(&name) && !branch.contains("..") && !branch.ends_with(".lock");
    if fine {
        Ok(name)
    } else {
        Err(Error::invalid("branch", format!("{:?} cannot be the name of a branch", shown(branch))))
    }
}

/// Refuses a path that could leave the repository or mean something to git, a shell or a terminal.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid("path", format!("{:?}: {why}", shown(path))));
    if path.len() > PATH_BYTES_MAX {
        return refuse(&format!("is longer than {PATH_BYTES_MAX} bytes"));
    }
    if path.starts_with('/') {
        return refuse("must be relative to the top of the repository");
    }
    if path.split('/').count() > PATH_DEPTH_MAX {
        return refuse(&format!("is deeper than {PATH_DEPTH_MAX} folders"));
    }
    match path.split('/').find_map(segment_fault) {
        Some(why) => refuse(&why),
        None => Ok(()),
    }
}

/// Why a text cannot be one part of a path; `None` if it can.
pub(crate) fn segment_fault(part: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+~@=,-".contains(c);
    if part.is_empty() {
        return Some("has an empty part".into());
    }
    if part.len() > SEGMENT_BYTES_MAX {
        return Some(format!("has a part of more than {SEGMENT_BYTES_MAX} bytes"));
    }
    if let Some(bad) = part.chars().find(|c| !allowed(*c)) {
        return Some(format!("contains {bad:?}; allowed are letters, digits and . _ + ~ @ = , -"));
    }
    let lower = part.to_ascii_lowercase();
    if part == "." || part.contains("..") || lower == ".git" || lower.starts_with("git~") {
        return Some(format!("the part {part:?} has a meaning of its own"));
    }
    // `.gitattributes` and `.gitmodules` change what a checkout does on every node
    if lower.starts_with(".git") || lower.ends_with(".lock") {
        return Some(format!("the part {part:?} is reserved for git"));
    }
    if part.starts_with('-') || part.contains("@{") {
        return Some(format!("the part {part:?} could be read as an option or a revision"));
    }
    None
}

/// Why a text cannot be the name of a tag; `None` if it can.
pub(crate) fn tag_fault(tag: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let begins = tag.starts_with(|c: char| c.is_ascii_alphanumeric());
    let odd = tag.contains("..") || tag.ends_with('.') || tag.to_ascii_lowercase().ends_with(".lock");
    if tag.len() <= TAG_BYTES_MAX && begins && tag.chars().all(allowed) && !odd {
        return None;
    }
    Some(format!(
        "{:?} cannot be a tag; it is 1 to {TAG_BYTES_MAX} letters, digits and . _ -, beginning with a letter or digit",
        shown(tag)
    ))
}

/// Where a ref points; `None` if it does not exist.
pub(crate) fn target(repo: &Repository, name: &str) -> Result<Option<Oid>> {
    match repo.refname_to_id(name) {
        Ok(oid) => Ok(Some(oid)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(source) => Err(Error::Git { doing: format!("reading {name}"), source }),
    }
}

/// Whether `commit` is `head` or one of its ancestors; not for what is no commit.
pub(crate) fn reaches(repo: &Repository, head: Oid, commit: Oid) -> Result<bool> {
    if head == commit {
        return Ok(true);
    }
    if repo.find_commit(commit).is_err() {
        return Ok(false);
    }
    repo.graph_descendant_of(head, commit).doing(|| format!("looking for {commit} below {head}"))
}

/// Moves a ref from `expect` to `new` (`None` = does not exist), or changes nothing.
///
/// # Errors
/// [`Error::Conflict`] if it points elsewhere or another process keeps it locked.
pub(crate) fn swap(repo: &Repository, name: &str, expect: Option<Oid>, new: Option<Oid>, why: &str) -> Result<()> {
    let doing = || format!("moving {name} in {}", repo.path().display());
    let deadline = Instant::now() + LOCK_WAIT;
    let mut transaction = repo.transaction().doing(doing)?;
    loop {
        match transaction.lock_ref(name) {
            Ok(()) => break,
            Err(error) if error.code() == ErrorCode::Locked && Instant::now() < deadline => {
                std::thread::sleep(LOCK_LOOK);
                // a transaction remembers the name it failed to lock
                transaction = repo.transaction().doing(doing)?;
            }
            Err(error) if error.code() == ErrorCode::Locked => {
                return Err(Error::Conflict {
                    what: format!("another process holds {}{name}.lock", repo.path().display()),
                    next: "try again; if no git command runs there, remove that file".into(),
                });
            }
            Err(source) => return Err(Error::Git { doing: doing(), source }),
        }
    }
    let now = target(repo, name)?;
    if now != expect {
        let text = |oid: Option<Oid>| oid.map_or_else(|| "nothing".into(), |oid| oid.to_string());
        return Err(Error::Conflict {
            what: format!("{name} is at {}, not at {} as expected", text(now), text(expect)),
            next: "read the newer version, apply the change to it and try again".into(),
        });
    }
    let signature = Signature::now("StraaS", "straas@localhost").doing(doing)?;
    match new {
        Some(oid) => transaction.set_target(name, oid, Some(&signature), why).doing(doing)?,
        None if now.is_none() => return Ok(()),
        None => transaction.remove(name).doing(doing)?,
    }
    transaction.commit().doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names() {
        let long = "a".repeat(300);
        for good in ["demo@az1", "a@b", "test-1@phx01"] {
            assert!(topology_ref(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "@",
            "demo",
            "demo@",
            "@az",
            "a@b@c",
            "a/b@az",
            "../x@az",
            "a..b@az",
            "a&b@az",
            "a@{0}",
            "a@az.lock",
            "a.lock@az",
            "-a@az",
            "A@az",
            "a b@az",
            "a\n@az",
            "a\0@az",
            "a@az/",
            "refs/heads/master",
            "master",
            "HEAD",
            "a~1@az",
            "a^@az",
            "a:b@az",
            "a*@az",
            "a?@az",
            "a[@az",
            "a\\@az",
            "ä@az",
            &long,
        ] {
            assert!(matches!(topology_ref(bad), Err(Error::Invalid { .. })), "{bad:?}");
        }
        assert!(branch_ref("master").is_ok() && branch_ref("demo@az1").is_ok());
        for bad in ["HEAD", "", "refs/heads/master", "master~1", "master.lock", "a@{1}", "@", "-d", "FETCH_HEAD"] {
            assert!(branch_ref(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths() {
        let (long, deep) = ("a".repeat(600), "a/".repeat(20) + "a");
        for good in
            ["app/zookeeper/3.8.0/user.json", "a", "cmd/lib/x_y.sh", "1:2".replace(':', "~").as_str(), "v1+dfsg-2"]
        {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            "./a",
            "a/./b",
            "..",
            "a/../b",
            "a/..b",
            ".git/config",
            "a/.GIT/x",
            ".gitattributes",
            ".gitmodules",
            "git~1/x",
            "a\\b",
            "a\nb",
            "a\0b",
            "a\u{1b}[m",
            "a:b",
            "x.lock",
            "-rf",
            "a/-x",
            "ä",
            "a b",
            "a*",
            &long,
            &deep,
        ] {
            assert!(matches!(check_path(bad), Err(Error::Invalid { .. })), "{bad:?}");
        }
    }

    #[test]
    fn commit_ids() {
        assert!(CommitId::parse(&"0a".repeat(20)).is_ok());
        for bad in ["", "master", "HEAD", &"0A".repeat(20), &"0a".repeat(32), &"0g".repeat(20), "0a0a0a"] {
            assert!(CommitId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_ref_moves_only_from_where_it_is_expected() {
        let home = tempfile::tempdir().expect("a folder");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let tree = repo.treebuilder(None).and_then(|builder| builder.write()).expect("a tree");
        let tree = repo.find_tree(tree).expect("a tree");
        let who = Signature::now("x", "x@y").expect("a signature");
        let commit = |text: &str| repo.commit(None, &who, &who, text, &tree, &[]).expect("a commit");
        let (a, b, name) = (commit("a"), commit("b"), "refs/heads/x@y");
        let conflict = |outcome| assert!(matches!(outcome, Err(Error::Conflict { .. })));
        conflict(swap(&repo, name, Some(a), Some(b), "it does not exist"));
        assert!(swap(&repo, name, None, Some(a), "made").is_ok());
        conflict(swap(&repo, name, None, Some(b), "it exists"));
        conflict(swap(&repo, name, Some(b), Some(a), "it is elsewhere"));
        conflict(swap(&repo, name, Some(b), None, "it is elsewhere"));
        assert_eq!(target(&repo, name).expect("read"), Some(a));
        let lock = home.path().join("refs/heads/x@y.lock");
        std::fs::write(&lock, "").expect("a lock of somebody else");
        conflict(swap(&repo, name, Some(a), Some(b), "it is locked"));
        std::fs::remove_file(lock).expect("removed");
        assert!(swap(&repo, name, Some(a), Some(b), "moved").is_ok());
        assert!(swap(&repo, name, Some(b), None, "deleted").is_ok());
        assert_eq!(target(&repo, name).expect("read"), None);
    }
}
