//! What a host of the pool must not forget: which node it has, how far it is with it, and which it released last.
//!
//! One small file, replaced as a whole and synced before anything is done that relies on it. A file that cannot be read
//! stops the agent: to take it for empty would be to say that nothing runs here.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use straas_schemas::NodeId;

/// What is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The node it has, or is cleaning up after.
    pub tenancy: Option<Tenancy>,
    /// The node that it was told last to have no more, and of which nothing runs.
    pub released: Option<NodeId>,
}

/// A node on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenancy {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where its agent shows its metrics.
    pub metrics_listen: String,
    /// How far it is.
    pub phase: Phase,
}

/// How far a host is with a node; each follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its agent is to run.
    Serving,
    /// Its agent has ended or is to, and its service is to stop.
    Leaving,
    /// Nothing of it runs; what it left is to go.
    Cleaning,
}

impl Record {
    /// The node whose agent or service runs here.
    pub fn holds(&self) -> Option<&NodeId> {
        self.tenancy.as_ref().filter(|tenancy| tenancy.phase != Phase::Cleaning).map(|tenancy| &tenancy.node)
    }

    /// The node that it has, or is cleaning up after.
    pub fn node(&self) -> Option<&NodeId> {
        self.tenancy.as_ref().map(|tenancy| &tenancy.node)
    }
}

/// The file.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    now: Record,
}

type Failed = (String, io::Error);

impl RecordFile {
    /// Reads it; none yet is an empty one.
    ///
    /// # Errors
    /// It is there and cannot be read, with what to do.
    pub fn open(state_dir: &Path) -> Result<Self, Failed> {
        let path = state_dir.join("pool.json");
        let now = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err((format!("{} cannot be read", path.display()), error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let what = format!(
                    "{} is damaged, so it is not known which node this host has: if nothing of a node is on it, remove the file",
                    path.display()
                );
                (what, io::Error::other(error))
            })?,
        };
        Ok(Self { path, now })
    }

    /// What is written down.
    pub fn now(&self) -> &Record {
        &self.now
    }

    /// Writes something else down; durable when this returns.
    ///
    /// # Errors
    /// The disk; then what was written before still holds.
    pub fn write(&mut self, record: Record) -> Result<(), Failed> {
        let failed = |error| (format!("{} cannot be written", self.path.display()), error);
        // a struct of strings always serialises
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        crate::stages::write_private(&self.path, &bytes).map_err(|what| failed(io::Error::other(what)))?;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        self.now = record;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_after_a_restart_and_damage_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut file = RecordFile::open(dir.path()).expect("opened");
        assert_eq!(file.now(), &Record::default());
        let tenancy =
            Tenancy { node: "n".into(), name: "zk-1".into(), metrics_listen: String::new(), phase: Phase::Leaving };
        let record = Record { tenancy: Some(tenancy.clone()), released: Some("m".into()) };
        file.write(record.clone()).expect("written");
        let again = RecordFile::open(dir.path()).expect("opened");
        assert_eq!((again.now(), again.now().holds()), (&record, Some(&"n".into())));
        let cleaning = Record { tenancy: Some(Tenancy { phase: Phase::Cleaning, ..tenancy }), ..record };
        assert_eq!((cleaning.holds(), cleaning.node()), (None, Some(&"n".into())));
        std::fs::write(dir.path().join("pool.json"), "{").expect("written");
        let (what, _) = RecordFile::open(dir.path()).expect_err("damaged");
        assert!(what.contains("pool.json is damaged"), "{what}");
    }
}
