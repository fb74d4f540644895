//! Names of other nodes in `/etc/hosts`: one marked block, everything else untouched.
//!
//! ```text
//! # BEGIN StraaS: kept by straas-agent, changes in here are lost
//! 10.77.0.11 demo-zk-1.example
//! # END StraaS
//! ```
//! Written only when it differs, into a file beside it that is synced and renamed, so nobody ever
//! reads half of one. Where the file is a mount of its own, which cannot be renamed over, it is
//! written in place.
//!
//! Never here: process mode, in which the file belongs to a host that is shared.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Once;

/// The file.
pub const PATH: &str = "/etc/hosts";
/// Longest name.
const NAME_MAX: usize = 253;
/// Longest label of a name.
const LABEL_MAX: usize = 63;
const BEGIN: &str = "# BEGIN StraaS: kept by straas-agent, changes in here are lost";
/// What the first line begins with, whatever follows it in another version.
const BEGIN_MARK: &str = "# BEGIN StraaS";
const END: &str = "# END StraaS";

/// Why names do not resolve.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// The assignment names something that may not stand in the file.
    #[error("{name:?} = {address:?} is not a host name and an IP address")]
    Entry {
        /// The name.
        name: String,
        /// Its address.
        address: String,
    },
    /// The disk.
    #[error("{path} cannot be brought up to date: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Makes exactly these names resolve to these addresses, beside whatever the file says already.
///
/// # Errors
/// See [`HostsError`]; then the file is as it was.
pub fn ensure(path: &Path, prefix: &str, names: &BTreeMap<String, String>) -> Result<(), HostsError> {
    if !prefix.is_empty() {
        static SAID: Once = Once::new();
        if !names.is_empty() {
            SAID.call_once(|| tracing::warn!(prefix, "names are not put into {PATH}: this host is shared with others"));
        }
        return Ok(());
    }
    let io = |source| HostsError::Io { path: path.display().to_string(), source };
    let before = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(io)?,
    };
    // a file of another encoding is not ours to spoil
    let before = String::from_utf8(before).map_err(|error| io(std::io::Error::other(error)))?;
    let after = with(&before, names)?;
    if after == before {
        return Ok(());
    }
    write(path, after.as_bytes()).map_err(io)?;
    tracing::info!(path = %path.display(), names = names.len(), "names brought up to date");
    Ok(())
}

/// The text with the block as it should be: in its old place, or at the end.
fn with(text: &str, names: &BTreeMap<String, String>) -> Result<String, HostsError> {
    let mut block = Vec::new();
    for (name, address) in names {
        if !is_host_name(name) || address.parse::<IpAddr>().is_err() {
            return Err(HostsError::Entry { name: name.clone(), address: address.clone() });
        }
        block.push(format!("{address} {name}"));
    }
    if !block.is_empty() {
        block.insert(0, BEGIN.to_owned());
        block.push(END.to_owned());
    }
    let lines: Vec<&str> = text.lines().collect();
    let begin = lines.iter().position(|line| line.starts_with(BEGIN_MARK));
    let end = begin.and_then(|begin| lines[begin..].iter().position(|line| *line == END).map(|end| begin + end + 1));
    let (head, tail) = match (begin, end) {
        (Some(begin), Some(end)) => (&lines[..begin], &lines[end..]),
        // somebody took the end away: what follows may be anybody's
        (Some(begin), None) => (&lines[..begin], &lines[begin + 1..]),
        (None, _) if block.is_empty() => return Ok(text.to_owned()),
        (None, _) => (&lines[..], &[][..]),
    };
    let all = head.iter().copied().chain(block.iter().map(String::as_str)).chain(tail.iter().copied());
    Ok(all.flat_map(|line| [line, "\n"]).collect())
}

/// Letters, digits and inner hyphens in labels; nothing that the host means by itself.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_MAX && name.split('.').all(label) && !name.eq_ignore_ascii_case("localhost")
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let tmp = path.with_extension("straas-new");
    let mut file = fs::File::create(&tmp)?;
    if let Ok(metadata) = fs::metadata(path) {
        file.set_permissions(metadata.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    match fs::rename(&tmp, path) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            fs::remove_file(&tmp)?;
            let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())).collect()
    }

    #[test]
    fn the_block_changes_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("hosts");
        let own = "127.0.0.1\tlocalhost\n# mine\n";
        fs::write(&path, own).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        let text = || fs::read_to_string(&path).expect("read");
        let put = |of: &[(&str, &str)]| ensure(&path, "", &names(of)).expect("in place");
        put(&[]);
        assert_eq!(text(), own);
        put(&[("demo-zk-1.x", "10.0.0.1"), ("demo-zk-2", "fd00::2")]);
        assert_eq!(text(), format!("{own}{BEGIN}\n10.0.0.1 demo-zk-1.x\nfd00::2 demo-zk-2\n{END}\n"));
        let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).expect("there"));
        let before = inode();
        put(&[("demo-zk-1.x", "10.0.0.1"), ("demo-zk-2", "fd00::2")]);
        assert_eq!(inode(), before, "written, although nothing changed");
        fs::write(&path, format!("{}# after\n", text())).expect("written");
        put(&[("demo-zk-1.x", "10.0.0.9")]);
        assert_eq!(text(), format!("{own}{BEGIN}\n10.0.0.9 demo-zk-1.x\n{END}\n# after\n"));
        put(&[]);
        assert_eq!(text(), format!("{own}# after\n"));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1, "a temporary file is left");
    }

    #[test]
    fn what_may_not_stand_there_is_refused_and_a_shared_host_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("hosts");
        for (name, address) in [
            ("a b", "10.0.0.1"),
            ("a\nb", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("-a", "10.0.0.1"),
            ("a..b", "10.0.0.1"),
            ("localhost", "10.0.0.1"),
            ("a", "10.0.0"),
            ("a", "10.0.0.1 evil"),
        ] {
            ensure(&path, "", &names(&[(name, address)])).expect_err(name);
        }
        assert!(!path.exists());
        ensure(&path, "/prefix", &names(&[("a", "10.0.0.1")])).expect("nothing to do");
        assert!(!path.exists());
        ensure(&path, "", &names(&[("a", "10.0.0.1")])).expect("made");
        assert!(path.exists());
    }
}
