//! Whether the disk of the data directory takes writes: the git repositories, packs and uploads are on
//! it, and the database, if that is SQLite.
//!
//! It is tried, since nothing else tells it for sure: room that is left may be kept for others, and a
//! failing disk becomes read-only without a word. Asked often it is tried once a second.
//!
//! Never here: what is done about it. Writes fail by themselves, and go on by themselves.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// What was found is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// A disk that does not answer by then does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Written to try it: as much as a small change takes.
const TRY_BYTES: usize = 64 * 1024;
/// The file that is written to try it; removed at once.
const TRY_FILE: &str = ".disk-takes-writes";

/// The disk of a data directory.
pub struct Disk {
    dir: PathBuf,
    found: Mutex<Option<(Instant, Option<String>)>>,
}

impl Disk {
    /// Of this directory.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), found: Mutex::default() }
    }

    /// Why it takes no writes, and what to do; nothing if it does.
    pub async fn fault(&self) -> Option<String> {
        let mut found = self.found.lock().await;
        if let Some((at, fault)) = found.as_ref()
            && at.elapsed() < GOOD_FOR
        {
            return fault.clone();
        }
        let dir = self.dir.clone();
        let tried = timeout(ANSWER_MAX, tokio::task::spawn_blocking(move || attempt(&dir))).await;
        let fault = match tried {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(advice(&error)),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", ANSWER_MAX.as_secs())),
        };
        let before = found.take().and_then(|(_, fault)| fault);
        if fault != before {
            let dir = self.dir.display();
            match &fault {
                Some(fault) => tracing::error!(%dir, "the data directory takes no writes: {fault}"),
                None => tracing::info!(%dir, "the data directory takes writes again"),
            }
        }
        *found = Some((Instant::now(), fault.clone()));
        fault
    }
}

fn attempt(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(TRY_FILE);
    let mut file = File::create(&path)?;
    let written = file.write_all(&[0; TRY_BYTES]).and_then(|()| file.sync_all());
    drop(file);
    written.and(std::fs::remove_file(path))
}

/// For everybody: without paths.
fn advice(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk of the data directory is full: writes are refused, reads and agents go on; make room, and it goes on by itself"
                .to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => "the disk of the data directory is read-only, which a failing disk becomes: writes are \
            refused, reads and agents go on; look at the kernel's log, repair the file system, mount it writable and start \
            the controller again"
            .to_owned(),
        _ => format!("the data directory takes no writes: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_tried_and_nothing_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Disk::of(dir.path());
        assert_eq!(disk.fault().await, None);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
        let gone = Disk::of(&dir.path().join("gone"));
        assert!(gone.fault().await.is_some_and(|fault| fault.contains("No such file")));
        for (errno, word) in [(28, "is full"), (30, "read-only"), (5, "takes no writes")] {
            let text = advice(&std::io::Error::from_raw_os_error(errno));
            assert!(text.contains(word), "{text}");
        }
    }
}
