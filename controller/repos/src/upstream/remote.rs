//! What an upstream is asked: its refs, objects, and to move refs.
//!
//! A push names for each ref where it has to be (`--force-with-lease`), so upstream moves it by
//! compare-and-swap as our own refs are moved; several refs move together or not at all. Every question
//! is asked with the turn to write or changes nothing here. Who may be believed is the caller's matter.

use super::command::{Ended, run};
use super::{Outage, Upstream};
use crate::error::{Error, Result};
use crate::refs;
use git2::Oid;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Refs by name, as a repository has them.
pub(crate) type Refs = BTreeMap<String, Oid>;

/// A ref that moves: from where it has to be to where it shall be; `None`: it does not exist.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) name: String,
    pub(crate) old: Option<Oid>,
    pub(crate) new: Option<Oid>,
}

/// What became of a push.
#[derive(Debug)]
pub(super) enum Pushed {
    /// It is upstream.
    Done,
    /// Not one ref moved, since one is not where it had to be.
    Raced(String),
    /// Upstream does not want it: a hook, a protected branch.
    Refused(String),
    /// Nobody knows: upstream may have done it.
    Unknown(String),
}

/// Words of a server, or of git, about a ref that another push moves or has moved.
const RACES: [&str; 8] = [
    "stale info",
    "fetch first",
    "non-fast-forward",
    "cannot lock ref",
    "failed to lock",
    "failed to update ref",
    "incorrect old value",
    "reference already exists",
];

impl Upstream {
    /// The refs of these kinds (`--heads`, `--tags`) that could be ours. Git has servers send all of a
    /// kind, some 65 bytes each, at every push as well.
    pub(super) fn listed(&self, kinds: &[&str]) -> Result<Refs> {
        let mut args = vec!["ls-remote", "--quiet"];
        args.extend(kinds);
        args.push(self.spec.url.as_str());
        let ended = self.reached(run(&self.spec, &self.dir, &args, "")?)?;
        let each = ended.output.lines().filter_map(|line| {
            let (oid, name) = line.split_once('\t')?;
            Some((name.to_owned(), Oid::from_str(oid).ok()?))
        });
        Ok(each.filter(|(name, _)| is_ours(name)).collect())
    }

    /// Gets what refs point to, with all that belongs to it.
    pub(super) fn fetched(&self, names: &[&str]) -> Result<()> {
        let args = [
            "fetch",
            "--quiet",
            "--stdin",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--refmap=",
            "--recurse-submodules=no",
            self.spec.url.as_str(),
        ];
        let mut input = String::new();
        for name in names {
            let _ = writeln!(input, "{name}");
        }
        self.reached(run(&self.spec, &self.dir, &args, &input)?).map(drop)
    }

    /// Asks upstream to move refs.
    pub(super) fn pushed(&self, moves: &[Move]) -> Result<Pushed> {
        let mut args = vec!["push".to_owned(), "--porcelain".into(), "--no-verify".into(), "--no-signed".into()];
        if moves.len() > 1 {
            args.push("--atomic".into());
        }
        let hex = |oid: Option<Oid>| oid.map_or_else(String::new, |oid| oid.to_string());
        args.extend(moves.iter().map(|m| format!("--force-with-lease={}:{}", m.name, hex(m.old))));
        args.push(self.spec.url.clone());
        args.extend(moves.iter().map(|m| format!("{}:{}", hex(m.new), m.name)));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = run(&self.spec, &self.dir, &args, "")?;
        if ended.fine {
            self.answered();
            return Ok(Pushed::Done);
        }
        let refusals: Vec<&str> = ended.output.lines().filter(|line| line.starts_with('!')).collect();
        if refusals.is_empty() {
            return Ok(Pushed::Unknown(ended.words));
        }
        self.answered();
        let text = refusals.iter().map(|line| line.rsplit('\t').next().unwrap_or_default());
        let text = text.collect::<Vec<_>>().join("; ");
        let about = format!("{text} {}", ended.words);
        let raced = RACES.iter().any(|words| about.contains(words));
        let shown: String = if raced { text } else { about }.chars().take(400).collect();
        Ok(if raced { Pushed::Raced(shown) } else { Pushed::Refused(shown) })
    }

    /// Moves many refs of the mirror by compare-and-swap, into one file.
    pub(super) fn moved(&self, moves: &[Move]) -> Result<()> {
        let mut input = String::new();
        for Move { name, old, new } in moves {
            let old = old.unwrap_or(Oid::ZERO_SHA1);
            let _ = match new {
                Some(new) => writeln!(input, "update {name} {new} {old}"),
                None => writeln!(input, "delete {name} {old}"),
            };
        }
        // not each by itself: the one file that they are then put into is synced
        for args in [&["-c", "core.fsync=none", "update-ref", "--stdin"][..], &["pack-refs", "--all"]] {
            let ended = run(&self.spec, &self.dir, args, &input)?;
            input.clear();
            if ended.killed {
                self.tidy();
            }
            if !ended.fine {
                return Err(Error::Conflict {
                    what: format!("the refs of the mirror cannot be moved together: {}", ended.words),
                    next: "try again".into(),
                });
            }
        }
        Ok(())
    }

    fn reached(&self, ended: Ended) -> Result<Ended> {
        if ended.killed {
            self.tidy();
        }
        if ended.fine {
            self.answered();
            return Ok(ended);
        }
        Err(self.failed(&ended.words, Outage::NothingSent))
    }
}

/// Whether a ref is of the kind that a mirror takes: branches that the API can name, and tags.
pub(super) fn is_ours(name: &str) -> bool {
    match (name.strip_prefix("refs/heads/"), name.strip_prefix("refs/tags/")) {
        (Some(branch), _) => refs::branch_ref(branch).is_ok(),
        (_, Some(tag)) => !tag.ends_with("^{}") && git2::Reference::is_valid_name(name) && tag.len() <= 256,
        _ => false,
    }
}
