//! An apt repository of a test's own, beside every mirror: signed, served to hosts by HTTP, with one tiny package.
//!
//! Made of what a Debian has (`dpkg-deb`, `apt-ftparchive`, `gpg`), as an operator's own would be.

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use std::path::{Path, PathBuf};
use std::process::Command;
use straas_drivers::local::LocalHosts;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::services::ServeDir;

/// Where it listens, towards the hosts: the controller's own ports are others.
const PORT: u16 = 8099;

/// A repository that is served until it is dropped.
pub struct Repository {
    /// Its address for hosts.
    pub url: String,
    /// The public key that it is signed with, in ASCII armour.
    pub key: String,
    /// A public key that signs nothing.
    pub other_key: String,
    task: JoinHandle<()>,
}

impl Repository {
    /// Makes and serves one with a package of this name and version; its suite is `stable`, its component `main`.
    ///
    /// # Errors
    /// A tool is missing, or the port is taken.
    pub fn serve(dir: &Path, hosts: &LocalHosts, package: &str, version: &str) -> Result<Self> {
        let served = dir.join("served");
        let binary = served.join("dists/stable/main/binary-all");
        std::fs::create_dir_all(&binary)?;
        std::fs::create_dir_all(served.join("pool"))?;
        pack(dir, &served.join("pool"), package, version)?;
        let packages = out(Command::new("apt-ftparchive").args(["packages", "pool"]).current_dir(&served))?;
        std::fs::write(binary.join("Packages"), packages)?;
        let words = ["-o", "APT::FTPArchive::Release::Suite=stable", "-o", "APT::FTPArchive::Release::Components=main"];
        let every = ["-o", "APT::FTPArchive::Release::Architectures=all", "release", "dists/stable"];
        let release = out(Command::new("apt-ftparchive").args(words).args(every).current_dir(&served))?;
        let suite = served.join("dists/stable");
        std::fs::write(suite.join("Release"), release)?;
        let (ours, other) = (Keys::make(&dir.join("ours"))?, Keys::make(&dir.join("other"))?);
        let sign = ["--clearsign", "--output", "InRelease", "Release"];
        out(ours.gpg().args(sign).current_dir(&suite))?;
        let listener = hosts.listen(PORT).context("listen for apt")?;
        let (listener, files) =
            (TcpListener::from_std(listener)?, Router::new().fallback_service(ServeDir::new(served)));
        let task = tokio::spawn(async move { drop(axum::serve(listener, files).await) });
        let url = format!("http://{}:{PORT}", hosts.gateway());
        Ok(Self { url, key: ours.public()?, other_key: other.public()?, task })
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A package with one file, `/usr/share/{package}`.
fn pack(dir: &Path, pool: &Path, package: &str, version: &str) -> Result<()> {
    let tree = dir.join("tree");
    for folder in ["DEBIAN", "usr/share"] {
        std::fs::create_dir_all(tree.join(folder))?;
    }
    let control = format!(
        "Package: {package}\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@localhost>\nDescription: tiny\n"
    );
    std::fs::write(tree.join("DEBIAN/control"), control)?;
    std::fs::write(tree.join("usr/share").join(package), "here\n")?;
    let deb = pool.join(format!("{package}_{version}_all.deb"));
    out(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(deb)).map(drop)
}

/// A key ring with one key, whose agent ends with it.
struct Keys(PathBuf);

impl Keys {
    fn make(home: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().mode(0o700).create(home)?;
        let keys = Self(home.to_owned());
        let key = ["--quick-generate-key", "a test <test@localhost>", "ed25519", "sign", "never"];
        out(keys.gpg().args(key))?;
        Ok(keys)
    }

    fn gpg(&self) -> Command {
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", &self.0).args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"]);
        command.args(["--passphrase", ""]);
        command
    }

    fn public(&self) -> Result<String> {
        out(self.gpg().args(["--armor", "--export"]))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").env("GNUPGHOME", &self.0).args(["--kill", "all"]).status();
    }
}

fn out(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
