//! The file system of a microhost, put together in its own mount namespace.
//!
//! overlay (image below, the host's disk on top), `/proc`, read-only `/sys`, a small `/dev` with the
//! harmless devices bound in, own devpts, `/dev/shm`, `/tmp` and `/run`. All of it ends with the
//! namespace, so nothing has to be unmounted and nothing can be left behind. `/proc/sys` and
//! `/proc/sysrq-trigger` are read-only: a package's script must not tune or reboot the machine.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::error::HostError;

/// Room for device nodes and nothing else.
const DEV_OPTIONS: &str = "mode=755,size=64k,nr_inodes=256";
/// Devices without side effects on the machine.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Mounts everything below `<dir>/root` and makes it `/`.
pub(super) fn enter(dir: &Path, lower: &[PathBuf]) -> Result<(), HostError> {
    let root = dir.join("root");
    overlay(lower, &dir.join("upper"), &dir.join("work"), &root)?;
    at(&root, "proc", |p| mount(Some("proc"), p, Some("proc"), nosuid(), None::<&str>))?;
    at(&root, "sys", |p| mount(Some("sysfs"), p, Some("sysfs"), nosuid() | MsFlags::MS_RDONLY, None::<&str>))?;
    for name in ["proc/sys", "proc/sysrq-trigger"] {
        bind_read_only(&root.join(name))?;
    }
    devices(&root)?;
    tmpfs(&root, "tmp", "mode=1777")?;
    tmpfs(&root, "run", "mode=755")?;
    fs::create_dir_all(root.join("run/lock")).map_err(HostError::at("create", &root.join("run/lock")))?;

    chdir(&root).map_err(HostError::at("enter", &root))?;
    // With both names the same the old root is stacked over the new one, and needs no directory.
    pivot_root(".", ".").map_err(HostError::io("cannot pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(HostError::io("cannot detach the old root"))?;
    chdir("/").map_err(HostError::io("cannot enter the new root"))
}

/// Mounts an overlay; `lower` is topmost first, `upper` and `work` are on one file system.
pub(super) fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, root: &Path) -> Result<(), HostError> {
    let lower: Vec<String> = lower.iter().map(|p| p.display().to_string()).collect();
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
    mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(HostError::at("mount an overlay on", root))
}

fn devices(root: &Path) -> Result<(), HostError> {
    let dev = root.join("dev");
    tmpfs(root, "dev", DEV_OPTIONS)?;
    for name in DEVICES {
        let node = dev.join(name);
        File::create(&node).map_err(HostError::at("create", &node))?;
        let source = Path::new("/dev").join(name);
        mount(Some(&source), &node, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(HostError::at("bind a device on", &node))?;
    }
    at(&dev, "pts", |p| {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(Some("devpts"), p, Some("devpts"), flags, Some("newinstance,ptmxmode=0666,mode=620,gid=5"))
    })?;
    tmpfs(&dev, "shm", "mode=1777")?;
    let links = [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        symlink(target, dev.join(name)).map_err(HostError::at("link", &dev.join(name)))?;
    }
    Ok(())
}

/// Mounts a tmpfs on a directory, which is made if missing.
pub(super) fn tmpfs(root: &Path, name: &str, options: &str) -> Result<(), HostError> {
    at(root, name, |p| mount(Some("tmpfs"), p, Some("tmpfs"), nosuid(), Some(options)))
}

/// Binds a path on itself, read-only; a path that this kernel does not have is fine.
fn bind_read_only(path: &Path) -> Result<(), HostError> {
    if !path.exists() {
        return Ok(());
    }
    let bind = MsFlags::MS_BIND;
    mount(Some(path), path, None::<&str>, bind, None::<&str>).map_err(HostError::at("bind", path))?;
    mount(None::<&str>, path, None::<&str>, bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>)
        .map_err(HostError::at("remount read-only", path))
}

/// Makes `<root>/<name>` and does something to it.
pub(super) fn at(root: &Path, name: &str, act: impl FnOnce(&Path) -> nix::Result<()>) -> Result<(), HostError> {
    let path = root.join(name);
    fs::create_dir_all(&path).map_err(HostError::at("create", &path))?;
    act(&path).map_err(HostError::at("mount on", &path))
}

fn nosuid() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV
}
