//! A git server over ssh, of which the repositories of all controllers are mirrors.

use super::net::{Net, Program, address, at};
use anyhow::{Context as _, Result, ensure};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// The number of its server.
pub const NUMBER: u8 = 6;
const PORT: u16 = 2222;

/// Starts it, with two empty repositories; lines for the configuration of a controller.
///
/// # Errors
/// The disk, or programs that are missing.
pub fn start(net: &Net, dir: &Path) -> Result<(Program, String)> {
    let home = dir.join("git");
    std::fs::create_dir_all(&home)?;
    for name in ["host", "user"] {
        run(&home, &["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name])?;
    }
    for name in ["config.git", "scripts.git"] {
        run(&home, &["git", "init", "-q", "--bare", "-b", "master", name])?;
    }
    std::fs::copy(home.join("user.pub"), home.join("authorized"))?;
    // what the user who runs the tests has in his shell's files is not meant for a server
    let text = format!(
        "ListenAddress {}\nPort {PORT}\nHostKey {1}/host\nAuthorizedKeysFile {1}/authorized\nStrictModes no\nUsePAM no\n\
         PidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         AcceptEnv GIT_PROTOCOL\nSetEnv HOME={1}\n",
        address(NUMBER),
        home.display()
    );
    let config = home.join("sshd_config");
    std::fs::write(&config, text)?;
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600))?;
    let key = std::fs::read_to_string(home.join("host.pub"))?;
    std::fs::write(home.join("known"), format!("[{}]:{PORT} {key}", address(NUMBER)))?;
    // root's sshd wants its empty folder, which a machine without a running one lacks
    std::fs::create_dir_all("/run/sshd")?;
    let server = net.start(NUMBER, "sshd", &["/usr/sbin/sshd", "-D", "-e", "-f", &config.to_string_lossy()])?;
    let section = |name: &str| {
        let home = home.display();
        format!(
            "[git.{name}]\nurl = \"ssh://root@{}{home}/{name}.git\"\nkey_file = \"{home}/user\"\n\
             known_hosts_file = \"{home}/known\"\n",
            at(NUMBER, PORT)
        )
    };
    Ok((server, format!("[git]\npoll_ms = 2000\n{}{}", section("config"), section("scripts"))))
}

fn run(dir: &Path, words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no program")?;
    let output = Command::new(program).args(arguments).current_dir(dir).output();
    let output = output.with_context(|| format!("start {program}"))?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
