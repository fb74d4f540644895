//! A real script repository, as the controller would have it.

use git2::{Oid, Repository, Signature};
use std::path::Path;

pub struct Repo {
    pub git: Repository,
}

impl Repo {
    pub fn new(dir: &Path) -> Self {
        Self { git: Repository::init_bare(dir).unwrap() }
    }

    /// A commit with exactly these files, all executable.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        let mut index = git2::Index::new().unwrap();
        for (path, text) in files {
            let id = self.git.blob(text.as_bytes()).unwrap();
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: if path.ends_with(".link") { 0o120_000 } else { 0o100_755 },
                uid: 0,
                gid: 0,
                file_size: 0,
                id,
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            };
            index.add(&entry).unwrap();
        }
        let tree = index.write_tree_to(&self.git).unwrap();
        self.commit_tree(tree)
    }

    pub fn commit_tree(&self, tree: Oid) -> String {
        let who = Signature::now("t", "t@t").unwrap();
        let parent = self.git.refname_to_id("refs/heads/main").ok().map(|id| self.git.find_commit(id).unwrap());
        let parents: Vec<_> = parent.iter().collect();
        let tree = self.git.find_tree(tree).unwrap();
        self.git.commit(Some("refs/heads/main"), &who, &who, "c", &tree, &parents).unwrap().to_string()
    }

    pub fn pack(&self, want: &str, have: Option<&str>) -> Vec<u8> {
        let mut builder = self.git.packbuilder().unwrap();
        let mut walk = self.git.revwalk().unwrap();
        walk.push(Oid::from_str(want).unwrap()).unwrap();
        if let Some(have) = have {
            walk.hide(Oid::from_str(have).unwrap()).unwrap();
        }
        builder.insert_walk(&mut walk).unwrap();
        let mut bytes = git2::Buf::new();
        builder.write_buf(&mut bytes).unwrap();
        bytes.to_vec()
    }
}
