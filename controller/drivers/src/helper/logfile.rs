//! A log file that cannot fill the disk: what a kept program prints, with one older generation.
//!
//! The program writes into a pipe and the keeper writes the file, so the bound is exact and no
//! signal or cron job is needed. A full disk or unwritable directory loses lines, never the program.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One generation of a log: enough for hours of an agent at level info.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// An append-only file of at most [`LOG_BYTES_MAX`], then moved to `<name>.1`.
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> Self {
        let mut log = Self { path: path.to_owned(), file: None, size: 0 };
        log.reopen();
        log
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.size + bytes.len() as u64 > LOG_BYTES_MAX {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            let _ = fs::rename(&self.path, old);
            self.reopen();
        }
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_ok()
        {
            self.size += bytes.len() as u64;
        }
    }

    fn reopen(&mut self) {
        self.file = File::options().append(true).create(true).open(&self.path).ok();
        self.size = self.file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_generations_are_the_most_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = LogFile::open(&path);
        for _ in 0..300 {
            log.write(&[b'x'; 64 << 10]);
        }
        let total: u64 = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(total <= 2 * LOG_BYTES_MAX, "{total}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
