//! What is special about a microhost: its disk, its start, its end, and commands inside it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::error::HostError;
use crate::helper::{StartTask, userdata_files};
use crate::hosts::HostSpec;
use crate::local::fabric::{BRIDGE, Fabric};
use crate::local::prune;
use crate::local::record::{HostDir, HostRecord};
use crate::local::registry::{Known, delay_helper, running};
use crate::local::spawn::Helper;
use crate::local::tools::{check_mountable, make_dirs, tail, write_atomic};
use crate::userdata;

/// Writes what makes one host differ from the image: its names and its userdata.
pub fn make_disk(dir: &HostDir, spec: &HostSpec, record: &HostRecord) -> Result<(), HostError> {
    check_mountable(dir.path())?;
    let upper = dir.upper();
    for part in [dir.at("work"), dir.at("root"), upper.clone()] {
        make_dirs(&part)?;
    }
    let files = [
        ("etc/hostname", format!("{}\n", spec.name), 0o644),
        ("etc/hosts", format!("127.0.0.1 localhost\n{} {}\n", record.address, spec.name), 0o644),
        ("etc/machine-id", format!("{}\n", machine_id()?), 0o444),
        (userdata_files::USERDATA.trim_start_matches('/'), userdata::render(spec), 0o600),
    ];
    for (path, content, mode) in files {
        let path = upper.join(path);
        open_dirs(&upper, path.parent().unwrap_or(&upper))?;
        write_atomic(&path, content.as_bytes(), mode)?;
        // The umask of whoever started us is not the host's.
        set_mode(&path, mode)?;
    }
    set_mode(dir.path(), 0o700)
}

/// Makes directories that everybody in the host may pass, whatever our umask is.
fn open_dirs(upper: &Path, dir: &Path) -> Result<(), HostError> {
    make_dirs(dir)?;
    dir.ancestors().take_while(|path| path.starts_with(upper)).try_for_each(|path| set_mode(path, 0o755))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), HostError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(HostError::at("set the mode of", path))
}

fn machine_id() -> Result<String, HostError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(HostError::at("read", path))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Starts a host that is down. Returns when its init has its root and takes orders.
pub async fn start(helper: &Helper, fabric: &Fabric, known: &Known, number: u32) -> Result<(), HostError> {
    let Known { dir, record } = known;
    if let Some(gone) = record.lower.iter().find(|path| !path.exists()) {
        return Err(HostError::Corrupt {
            path: gone.clone(),
            reason: format!("host {} was made from this image, and it is gone; destroy the host", record.id),
        });
    }
    prune::pin(&record.lower, dir)?;
    let task = StartTask {
        dir: dir.path().to_owned(),
        name: record.name.clone(),
        lower: record.lower.clone(),
        address: format!("{}/{}", record.address, fabric.subnet.prefix_length()),
        gateway: fabric.subnet.gateway().to_string(),
        mac: Fabric::mac(record.address),
        netns: fabric.netns.clone(),
        bridge: BRIDGE.into(),
        port: Fabric::port(number),
        cut: record.cut,
    };
    helper.start("start", &task, &dir.at("init.log")).await
}

/// Ends a host at once: its delay helper, its init with all processes, its port. Blocking.
pub fn power_off(dir: &HostDir, number: Option<u32>, fabric: &Fabric) -> Result<(), HostError> {
    if let Some(delay) = delay_helper(dir) {
        delay.kill()?;
    }
    if let Some(init) = running(dir) {
        init.kill()?;
    }
    // The port of a host whose record is gone is found by the adoption of the next start.
    number.map_or(Ok(()), |number| fabric.delete_port(number))
}

/// Ends a delay helper in order: it puts the port straight itself; if it was killed, we do.
pub fn end_delay(dir: &HostDir, number: u32, fabric: &Fabric) -> Result<(), HostError> {
    if let Some(delay) = delay_helper(dir) {
        delay.signal(Signal::TERM);
        if !delay.wait(Duration::from_secs(DELAY_END_SECONDS_MAX)) {
            delay.kill()?;
        }
    }
    fabric.straighten_port(number)
}

/// A delay helper only has to move one port back.
const DELAY_END_SECONDS_MAX: u64 = 20;

/// The command that enters all namespaces of a host.
pub fn exec_command(init: i32, argv: &[&str], limit: Duration) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("-t").arg(init.to_string()).args(["-m", "-u", "-i", "-n", "-p", "-r", "-w", "--"]);
    command.args(["env", "-i", "TERM=dumb", "HOME=/root", "LC_ALL=C.UTF-8"]);
    command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // Inside, because killing nsenter would leave the command running in the host.
    command.args(["timeout", "--kill-after=5"]).arg(limit.as_secs().to_string()).args(argv);
    command
}

/// Why the last try of the userdata failed, if it did.
pub fn userdata_failure(dir: &HostDir) -> Option<String> {
    let upper = dir.upper();
    let inside = |path: &str| upper.join(path.trim_start_matches('/'));
    let status = fs::read_to_string(inside(userdata_files::USERDATA_FAILED)).ok()?;
    let log = tail(&fs::read(inside(userdata_files::USERDATA_LOG)).unwrap_or_default());
    let last = log.lines().last().unwrap_or("no output");
    Some(format!("userdata failed ({}): {last}", status.trim()))
}
