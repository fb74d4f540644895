//! Disks that can be full or fail: an ext4 file system of some MiB in a file.
//!
//! One is the data directory of a controller, another the state directory of an agent. Full is full: no
//! room is kept for root. A disk that fails does what Linux does with it: the file system becomes
//! read-only and stays so until it is mounted anew. All ends with the guard, or with the host.

use crate::cluster::{Cluster, STEP_MAX};
use crate::wait;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an agent keeps.
pub const STATE_DIR: &str = "/var/lib/straas/agent";
/// The file that takes all the room.
const FILL: &str = "fill";
/// Where a disk is put together before it takes a directory's place.
const NEW: &str = "/mnt/straas-disk";

/// Takes all the room there is, down to the last block.
fn filling(dir: &str) -> String {
    format!(
        "cd {dir} && for size in 1M 64k 4k; do dd if=/dev/zero bs=$size oflag=append conv=notrunc,fsync of={FILL} 2>/dev/null; \
         done; sync -f {FILL}; true"
    )
}

/// A disk in a file, as a device.
pub struct Disk {
    image: PathBuf,
    device: PathBuf,
    /// Where it is mounted in this test's own view, and what is bound below it.
    mounted: Option<PathBuf>,
    beside: Option<PathBuf>,
}

impl Disk {
    /// A new one of so many MiB.
    ///
    /// # Errors
    /// It cannot be made.
    fn new(image: PathBuf, mib: u64) -> Result<Self> {
        std::fs::File::create(&image)?.set_len(mib << 20)?;
        run("mkfs.ext4", &["-q", "-m", "0", &image.to_string_lossy()])?;
        let device = run("losetup", &["--find", "--show", &image.to_string_lossy()])?.trim().into();
        Ok(Self { image, device, mounted: None, beside: None })
    }

    /// Its device number, as `mknod` wants it.
    fn number(&self) -> Result<String> {
        let name = self.device.file_name().context("a device")?.to_string_lossy().into_owned();
        Ok(std::fs::read_to_string(format!("/sys/block/{name}/dev"))?.trim().replace(':', " "))
    }

    /// The disk fails: Linux finds the file system damaged and makes it read-only.
    ///
    /// # Errors
    /// It is not mounted.
    pub fn fails(&self) -> Result<()> {
        let name = self.device.file_name().context("a device")?.to_string_lossy().into_owned();
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "a test")?;
        Ok(())
    }

    fn repair(&self) -> Result<()> {
        // 1: damage was repaired
        let ended = Command::new("e2fsck").arg("-fy").arg(&self.device).output().context("start e2fsck")?;
        ensure!(ended.status.code().is_some_and(|code| code <= 1), "e2fsck: {}", text(&ended.stdout));
        Ok(())
    }

    /// Takes all its room; it is mounted in this test's own view.
    ///
    /// # Errors
    /// It is not.
    pub fn fill(&self) -> Result<()> {
        let dir = self.mounted.as_ref().context("it is not mounted")?;
        run("sh", &["-c", &filling(&dir.to_string_lossy())]).map(drop)
    }

    /// Gives its room back.
    ///
    /// # Errors
    /// It is not mounted in this test's own view.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.mounted.as_ref().context("it is not mounted")?.join(FILL))?)
    }

    fn mount(&mut self, dir: &Path, hosts: &Path) -> Result<()> {
        let (device, at) = (self.device.to_string_lossy(), dir.to_string_lossy());
        run("mount", &["-o", "errors=remount-ro", &device, &at])?;
        self.mounted = Some(dir.to_owned());
        std::fs::create_dir_all(dir.join("hosts"))?;
        run("mount", &["--bind", &hosts.to_string_lossy(), &dir.join("hosts").to_string_lossy()])?;
        self.beside = Some(hosts.to_owned());
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        let Some(dir) = self.mounted.clone() else { return Ok(()) };
        if self.beside.is_some() {
            // hosts that run go on with what they have open
            run("umount", &["--lazy", &dir.join("hosts").to_string_lossy()])?;
            self.beside = None;
        }
        run("umount", &[&dir.to_string_lossy()])?;
        self.mounted = None;
        Ok(())
    }

    /// Repairs it after it failed, while no controller runs on it.
    ///
    /// # Errors
    /// Somebody uses it, or it cannot be repaired.
    pub fn replaced(&mut self) -> Result<()> {
        let (dir, hosts) = (self.mounted.clone(), self.beside.clone());
        self.unmount()?;
        self.repair()?;
        let (dir, hosts) = dir.zip(hosts).context("it was not mounted")?;
        self.mount(&dir, &hosts)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.unmount().is_err()
            && let Some(dir) = &self.mounted
        {
            // whoever still uses it is told by the cluster's end
            let _ = run("umount", &["--recursive", "--lazy", &dir.to_string_lossy()]);
        }
        // where a host uses it, it goes with the host
        let _ = run("losetup", &["--detach", &self.device.to_string_lossy()]);
        let _ = std::fs::remove_file(&self.image);
        // empty but for what the driver leaves, once there is no host
        let hosts = self.image.with_extension("hosts");
        if std::fs::read_dir(hosts.join("hosts")).map_or(true, |mut entries| entries.next().is_none()) {
            let _ = std::fs::remove_dir_all(hosts);
        }
    }
}

impl Cluster {
    /// Puts the data directory on a disk of its own, before the first start; hosts stay where they are.
    ///
    /// # Errors
    /// The disk cannot be made.
    pub fn put_on_a_disk(&mut self, mib: u64) -> Result<()> {
        let data = self.data().to_owned();
        let beside = |end: &str| PathBuf::from(format!("{}.{end}", data.display()));
        let (image, hosts) = (beside("disk"), beside("hosts"));
        std::fs::create_dir_all(&hosts)?;
        let mut disk = Disk::new(image, mib)?;
        disk.mount(&data, &hosts)?;
        self.disk = Some(disk);
        Ok(())
    }

    /// The disk of the data directory.
    ///
    /// # Errors
    /// It has none of its own.
    pub fn disk(&mut self) -> Result<&mut Disk> {
        self.disk.as_mut().context("the data directory has no disk of its own")
    }

    /// Moves what the agent of a node keeps to a disk of its own; the agent starts anew.
    ///
    /// # Errors
    /// There is no agent, or the disk cannot be made.
    pub async fn agent_on_a_disk(&self, node: &str, mib: u64) -> Result<Disk> {
        let disk = Disk::new(self.data().join(format!("{node}.disk")), mib)?;
        let pid = self.agent_pid(node).await.with_context(|| format!("no agent runs in {node}"))?;
        let number = disk.number()?;
        self.sh(
            node,
            &format!(
                "set -e; kill -STOP {pid}; mknod /root/disk b {number}; mkdir -p {NEW}\n\
                 mount -t ext4 -o errors=remount-ro /root/disk {NEW}; cp -a {STATE_DIR}/. {NEW}/; umount {NEW}\n\
                 mv {STATE_DIR} {STATE_DIR}.before; mkdir -m 700 {STATE_DIR}\n\
                 mount -t ext4 -o errors=remount-ro /root/disk {STATE_DIR}; kill -9 {pid}"
            ),
        )
        .await?;
        wait("an agent on the new disk", STEP_MAX, async || self.agent_pid(node).await.filter(|now| *now != pid))
            .await?;
        Ok(disk)
    }

    /// Takes all the room of an agent's disk.
    ///
    /// # Errors
    /// Its host does not run.
    pub async fn fill_agents_disk(&self, node: &str) -> Result<()> {
        self.sh(node, &filling(STATE_DIR)).await.map(drop)
    }

    /// Gives it back.
    ///
    /// # Errors
    /// Its host does not run.
    pub async fn free_agents_disk(&self, node: &str) -> Result<()> {
        self.sh(node, &format!("rm {STATE_DIR}/{FILL}")).await.map(drop)
    }

    /// What a person does with the failed disk of a host: ends the agent, repairs and mounts it.
    ///
    /// # Errors
    /// It cannot be unmounted or repaired.
    pub async fn repair_agents_disk(&self, node: &str, disk: &Disk) -> Result<()> {
        // who keeps the agent running starts it again at once, maybe on the disk
        let unmount = format!("kill -9 $(pidof straas-agent) 2>/dev/null; umount {STATE_DIR}");
        let unmounted = async || self.exec(node, &["sh", "-c", &unmount]).await.ok().filter(|ran| ran.code == 0);
        wait("the failed disk to be free", STEP_MAX, unmounted).await?;
        disk.repair()?;
        self.sh(node, &format!("mount -t ext4 -o errors=remount-ro /root/disk {STATE_DIR}")).await.map(drop)
    }
}

/// Unmounts and removes what a test run that was killed has left of disks beside a data directory.
pub(crate) fn remove_left(data: &Path) {
    let _ = run("umount", &["--recursive", "--lazy", &data.to_string_lossy()]);
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program} {arguments:?}: {}{}", text(&output.stderr), text(&output.stdout));
    }
    Ok(text(&output.stdout))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
