//! The apt repository of the settings (`[packages]`), as a file that nodes have.
//!
//! It is assigned and fetched by its hash like every other file. Its content is kept before anybody is
//! told of it, and stays: a node that has an older assignment still finds what that names.

use crate::ca::write_private;
use crate::files;
use std::path::Path;
use straas_schemas::settings::PackageSettings;
use straas_schemas::{Digest, FileRef};

/// Where it is on a node; nobody else may put a file there.
pub const PATH: &str = "/etc/apt/sources.list.d/straas-packages.sources";

/// The file with its content; `None` where apt is left as it is.
#[must_use]
pub fn file(settings: &PackageSettings) -> Option<(FileRef, String)> {
    let content = settings.apt.as_ref()?.sources();
    let (sha256, size) = (Digest::sha256(content.as_bytes()), content.len() as u64);
    Some((FileRef { path: PATH.to_owned(), sha256, size, mode: 0o644 }, content))
}

/// Keeps its content for those who are told to fetch it.
///
/// # Errors
/// The disk.
pub fn keep(data_dir: &Path, settings: &PackageSettings) -> std::io::Result<()> {
    let Some((file, content)) = file(settings) else { return Ok(()) };
    let path = files::path(data_dir, &file);
    if path.exists() { Ok(()) } else { write_private(&path, content.as_bytes()) }
}
