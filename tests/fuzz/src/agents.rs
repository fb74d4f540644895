//! What agents send to the controller, and what it sends to them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::sync::LazyLock;
use straas_agent::scripts::packs;
use straas_schemas::command::CommandEnd;
use straas_schemas::enrol::{ComeBackRequest, EnrolRequest, RenewRequest};
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::poll::{PollAnswer, PollRequest};
use straas_schemas::pool::{HostPollAnswer, HostPollRequest, JoinRequest};
use straas_schemas::report::ReportRequest;
use straas_schemas::{Assignment, Digest};
use tempfile::TempDir;

/// What is read is written as something that reads as the same.
fn there_and_back<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(data) else {
        return;
    };
    let once = serde_json::to_value(&read).expect("writes");
    let again: T = serde_json::from_value(once.clone()).expect("what was written is read");
    assert_eq!(serde_json::to_value(&again).expect("writes"), once);
}

/// Bodies between agent and controller.
pub(super) fn body(data: &[u8]) {
    there_and_back::<ReportRequest>(data);
    there_and_back::<Heartbeat>(data);
    there_and_back::<PollRequest>(data);
    there_and_back::<PollAnswer>(data);
    there_and_back::<Assignment>(data);
    there_and_back::<EnrolRequest>(data);
    there_and_back::<RenewRequest>(data);
    there_and_back::<ComeBackRequest>(data);
    there_and_back::<CommandEnd>(data);
    there_and_back::<JoinRequest>(data);
    there_and_back::<HostPollRequest>(data);
    there_and_back::<HostPollAnswer>(data);
}

/// A pack of one commit with a script, and the commit.
static GOOD: LazyLock<(Vec<u8>, String)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let repo = git2::Repository::init_bare(dir.path()).expect("a repository");
    let blob = repo.blob(b"#!/bin/sh\nexit 0\n").expect("a blob");
    let mut tree = repo.treebuilder(None).expect("a tree");
    tree.insert("install.sh", blob, 0o100_755).expect("an entry");
    let tree = repo.find_tree(tree.write().expect("written")).expect("a tree");
    let time = git2::Time::new(0, 0);
    let who = git2::Signature::new("a", "a@b", &time).expect("a signature");
    let commit = repo.commit(None, &who, &who, "m", &tree, &[]).expect("a commit");
    let mut pack = repo.packbuilder().expect("a pack");
    pack.insert_commit(commit).expect("the commit");
    let mut bytes = git2::Buf::new();
    pack.write_buf(&mut bytes).expect("written");
    (bytes.to_vec(), commit.to_string())
});

/// A pack that was changed on its way, though its sum is right: two bytes say where, the rest is laid over it. Either
/// it is refused, or all of the commit is there and may be checked out.
pub(super) fn pack(data: &[u8]) {
    let (good, commit) = &*GOOD;
    let mut bytes = good.clone();
    if let [high, low, rest @ ..] = data {
        let at = (usize::from(*high) << 8 | usize::from(*low)) % (bytes.len() + 1);
        let end = (at + rest.len()).min(bytes.len());
        bytes.splice(at..end, rest.iter().copied());
    }
    BASE.with(|base| {
        let base = base.path();
        empty(base);
        let file = base.join("pack");
        std::fs::write(&file, &bytes).expect("written");
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let taken = packs::index(base, commit, &file, &Digest(sum));
        assert_eq!(taken.is_ok(), packs::has(base, commit), "{taken:?}");
        assert!(taken.is_ok() || bytes != *good, "the pack as it was made is refused: {taken:?}");
    });
}

thread_local! {
    /// Where packs are taken in: making a repository takes longer than all that is tried in it.
    static BASE: TempDir = tempfile::tempdir().expect("a directory");
}

/// Takes what an earlier pack left out of the repository: equal bytes meet equal things.
fn empty(base: &Path) {
    let repo = base.join("repo.git");
    for entry in std::fs::read_dir(repo.join("objects/pack")).into_iter().flatten().flatten() {
        std::fs::remove_file(entry.path()).expect("removed");
    }
    match std::fs::remove_file(repo.join("refs/straas/have")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}
