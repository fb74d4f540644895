//! What is kept about a host on disk, so that a controller that was killed finds it again.
//!
//! `hosts/<id>/host.json` is written once when the directory is complete: a directory without it
//! is half made and is removed at the next start. `run.json` is written by the helper that starts
//! the host, before the host may act, so that no running host is unknown. Both are replaced
//! atomically and synced.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::HostError;
use crate::hosts::Flavor;
use crate::local::places::Place;
use crate::local::proc::ProcessId;
use crate::local::tools::write_atomic;

/// What a host is, for its whole life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// Layout of this file; a larger one than ours is refused.
    pub version: u32,
    /// As in the spec.
    pub id: String,
    /// As in the spec.
    pub name: String,
    /// As in the spec.
    pub owner: String,
    /// As in the spec.
    pub zone: String,
    /// As in the spec.
    pub flavor: Flavor,
    /// Its address.
    pub address: Ipv4Addr,
    /// The image's directories it was made from, topmost first; empty in process mode.
    pub lower: Vec<PathBuf>,
    /// Whether the link was taken down on purpose.
    pub cut: bool,
    /// As in the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// Its fault domain, from 1; none where the machine is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domain: Option<u32>,
}

impl HostRecord {
    /// Where it is placed.
    pub fn place(&self) -> Option<Place> {
        let group = self.spread.as_ref().map(|spread| (self.owner.clone(), spread.clone()));
        self.fault_domain.map(|domain| Place { group, domain })
    }
}

/// The layout that this code writes.
pub const RECORD_VERSION: u32 = 1;

/// The last boot of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its init, or its supervisor in process mode.
    pub process: ProcessId,
    /// How often it was booted so far.
    pub boots: u32,
}

/// The files of one host.
#[derive(Debug, Clone)]
pub struct HostDir(pub PathBuf);

impl HostDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file or directory in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The writable layer of a microhost.
    pub fn upper(&self) -> PathBuf {
        self.at("upper")
    }

    /// The prefix of an agent in process mode.
    pub fn prefix(&self) -> PathBuf {
        self.at("root")
    }

    /// Where the host's record is.
    pub fn record_path(&self) -> PathBuf {
        self.at("host.json")
    }

    /// Reads the host's record; `None` when it was never completed.
    pub fn record(&self) -> Result<Option<HostRecord>, HostError> {
        let path = self.record_path();
        let record: Option<HostRecord> = read_json(&path)?;
        if let Some(record) = &record {
            let ours = self.0.file_name().is_some_and(|name| name == record.id.as_str());
            if record.version != RECORD_VERSION || !ours {
                let reason = format!("version {} of host {:?}", record.version, record.id);
                return Err(HostError::Corrupt { path, reason });
            }
        }
        Ok(record)
    }

    /// Writes the host's record.
    pub fn write_record(&self, record: &HostRecord) -> Result<(), HostError> {
        write_json(&self.record_path(), record)
    }

    /// Reads the last boot; `None` when there was none, or when it is unreadable (then the host
    /// counts as down: the file is replaced atomically, so only a foreign hand can spoil it).
    pub fn run(&self) -> Option<RunRecord> {
        read_json(&self.at("run.json")).ok().flatten()
    }

    /// Writes the last boot.
    pub fn write_run(&self, run: &RunRecord) -> Result<(), HostError> {
        write_json(&self.at("run.json"), run)
    }
}

/// Reads a JSON file; `None` when it does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, HostError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(HostError::at("read", path)(e)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| HostError::Corrupt { path: path.to_owned(), reason: e.to_string() })
}

/// Writes a JSON file atomically and durably.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), HostError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| HostError::Corrupt { path: path.to_owned(), reason: e.to_string() })?;
    bytes.push(b'\n');
    write_atomic(path, &bytes, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> HostRecord {
        HostRecord {
            version: RECORD_VERSION,
            id: "n-1".into(),
            name: "demo-zk-1".into(),
            owner: "demo".into(),
            zone: "az1".into(),
            flavor: Flavor { memory_mib: 512, vcpus: 1 },
            address: Ipv4Addr::new(10, 77, 0, 11),
            lower: vec!["/x/agent".into(), "/x/base".into()],
            cut: false,
            spread: None,
            fault_domain: None,
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let base = tempfile::tempdir().unwrap();
        let dir = HostDir(base.path().join("n-1"));
        fs::create_dir(dir.path()).unwrap();
        assert_eq!(dir.record().unwrap(), None);
        dir.write_record(&record()).unwrap();
        assert_eq!(dir.record().unwrap(), Some(record()));
        assert!(!dir.at("host.json.new").exists());
    }

    #[test]
    fn foreign_newer_and_torn_records_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let dir = HostDir(base.path().join("n-2"));
        fs::create_dir(dir.path()).unwrap();
        dir.write_record(&record()).unwrap();
        assert!(matches!(dir.record(), Err(HostError::Corrupt { .. })), "the id differs from the directory");
        let newer = HostRecord { version: RECORD_VERSION + 1, id: "n-2".into(), ..record() };
        dir.write_record(&newer).unwrap();
        assert!(matches!(dir.record(), Err(HostError::Corrupt { .. })));
        fs::write(dir.at("host.json"), "{\"version\":1,").unwrap();
        assert!(matches!(dir.record(), Err(HostError::Corrupt { .. })));
    }
}
