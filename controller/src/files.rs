//! Files that every host should have, as the operator's configuration names them.
//!
//! At start each is copied to `data_dir/files/<sha256>`, so that what agents are told by hash is
//! what they get, even if the source changes later.

use crate::apt;
use crate::ca::write_private;
use crate::config::FileConfig;
use std::path::{Path, PathBuf};
use straas_schemas::{Digest, FileRef};

/// Most bytes of one file: it is held in memory once, at start.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where a file's content is kept.
#[must_use]
pub fn path(data_dir: &Path, file: &FileRef) -> PathBuf {
    data_dir.join("files").join(file.sha256.as_str())
}

/// Where a file that a user uploaded for a command is kept.
#[must_use]
pub fn uploaded(data_dir: &Path, sha256: &str) -> PathBuf {
    data_dir.join("uploads").join(sha256)
}

/// Takes in the configured files.
///
/// # Errors
/// A source cannot be read, is too large, or its target is not an absolute path.
pub fn take_in(data_dir: &Path, files: &[FileConfig]) -> std::io::Result<Vec<FileRef>> {
    let invalid = |text: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, text);
    let mut out = Vec::new();
    for file in files {
        let plain = file.path.is_absolute() && file.path.components().all(|c| c.as_os_str() != "..");
        let (true, Some(target)) = (plain, file.path.to_str()) else {
            return Err(invalid(format!("[[files]] path {} must be absolute and without '..'", file.path.display())));
        };
        if target == apt::PATH {
            return Err(invalid(format!("[[files]] path {target} is that of the setting [packages]; choose another")));
        }
        let size = std::fs::metadata(&file.source)?.len();
        if size > FILE_BYTES_MAX {
            return Err(invalid(format!(
                "[[files]] source {} has {size} bytes; at most {FILE_BYTES_MAX}",
                file.source.display()
            )));
        }
        let bytes = std::fs::read(&file.source)?;
        let reference = FileRef {
            path: target.to_owned(),
            sha256: Digest::sha256(&bytes),
            size: bytes.len() as u64,
            mode: file.mode & 0o777,
        };
        std::fs::create_dir_all(data_dir.join("files"))?;
        write_private(&path(data_dir, &reference), &bytes)?;
        out.push(reference);
    }
    Ok(out)
}
