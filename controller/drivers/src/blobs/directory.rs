//! Content in a directory of this machine: one file for each hash, written elsewhere and renamed in.

use super::{Blob, BlobError, Blobs};
use async_trait::async_trait;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A directory, which must be on the same disk as the files that are taken over.
pub struct Directory {
    dir: PathBuf,
}

impl Directory {
    /// One that is there.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn path(&self, sha256: &str) -> Option<PathBuf> {
        // in lower case, as it is written everywhere: one content has one name
        let plain = sha256.len() == 64 && sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        plain.then(|| self.dir.join(sha256))
    }
}

fn fails(what: &'static str, path: &Path, source: std::io::Error) -> BlobError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlobError::Full { path, source },
        _ => BlobError::Io { what, path, source },
    }
}

#[async_trait]
impl Blobs for Directory {
    fn kind(&self) -> &'static str {
        "directory"
    }

    async fn keep(&self, sha256: &str, from: &Path) -> Result<(), BlobError> {
        let no_hash = || fails("no SHA-256:", Path::new(sha256), ErrorKind::InvalidInput.into());
        let to = self.path(sha256).ok_or_else(no_hash)?;
        // over what is there already: its age begins anew, so that no sweep takes it in between
        tokio::fs::rename(from, &to).await.map_err(|source| fails("cannot keep", &to, source))?;
        let now = tokio::fs::File::open(&self.dir).await;
        let synced = match now {
            Ok(dir) => dir.sync_all().await,
            Err(error) => Err(error),
        };
        synced.map_err(|source| fails("cannot sync", &self.dir, source))
    }

    async fn open(&self, sha256: &str) -> Result<Option<Blob>, BlobError> {
        let Some(path) = self.path(sha256) else { return Ok(None) };
        let file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(fails("cannot open", &path, source)),
        };
        let size = file.metadata().await.map_err(|source| fails("cannot look at", &path, source))?.len();
        Ok(Some(Blob { size, content: Box::new(file) }))
    }

    async fn list(&self) -> Result<Vec<(String, Duration)>, BlobError> {
        let cannot = |source| fails("cannot list", &self.dir, source);
        let mut entries = tokio::fs::read_dir(&self.dir).await.map_err(cannot)?;
        let mut out = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(cannot)? {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let Ok(meta) = entry.metadata().await else { continue };
            if meta.is_file() && self.path(&name).is_some() {
                let kept = meta.ctime_age().unwrap_or_default();
                out.push((name, kept));
            }
        }
        out.sort();
        Ok(out)
    }

    async fn remove(&self, sha256: &str) -> Result<(), BlobError> {
        let Some(path) = self.path(sha256) else { return Ok(()) };
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(fails("cannot remove", &path, error)),
            _ => Ok(()),
        }
    }
}

/// How long ago a file was renamed to where it is.
trait Age {
    fn ctime_age(&self) -> Option<Duration>;
}

impl Age for std::fs::Metadata {
    fn ctime_age(&self) -> Option<Duration> {
        use std::os::unix::fs::MetadataExt as _;
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(self.ctime()).ok()?);
        SystemTime::now().duration_since(changed).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn content_comes_and_goes_by_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Directory::new(dir.path().to_owned());
        let hash = "a".repeat(64);
        let from = dir.path().join("partial");
        assert!(blobs.open(&hash).await.unwrap().is_none());
        for content in ["one", "two"] {
            std::fs::write(&from, content).unwrap();
            blobs.keep(&hash, &from).await.unwrap();
            assert!(!from.exists());
            let mut found = blobs.open(&hash).await.unwrap().unwrap();
            let mut text = String::new();
            found.content.read_to_string(&mut text).await.unwrap();
            assert_eq!((text.as_str(), found.size), (content, 3));
        }
        std::fs::write(dir.path().join("else"), "x").unwrap();
        let listed = blobs.list().await.unwrap();
        assert_eq!(listed.iter().map(|(hash, _)| hash.as_str()).collect::<Vec<_>>(), [hash.as_str()]);
        blobs.remove(&hash).await.unwrap();
        blobs.remove(&hash).await.unwrap();
        assert!(blobs.open(&hash).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_no_hash_names_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("blobs");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        let blobs = Directory::new(inner);
        // the same hash in capitals would be another name of one content
        let capitals = "A".repeat(64);
        std::fs::write(dir.path().join("blobs").join(&capitals), "x").unwrap();
        for name in ["../secret", "", ".", "nothing", &capitals] {
            assert!(blobs.open(name).await.unwrap().is_none(), "{name}");
            blobs.remove(name).await.unwrap();
        }
        assert!(blobs.list().await.unwrap().is_empty());
        assert!(blobs.keep(&capitals, &dir.path().join("secret")).await.is_err());
        assert!(dir.path().join("secret").exists());
    }
}
