//! The image of microhosts: a clean Debian, and one layer with our agent's package on top.
//!
//! Built once and cached like a VM image, in directories named by a hash of what they are made of:
//!
//! ```text
//!   <cache>/base-<hash of the recipe>/          mmdebstrap, about a minute
//!   <cache>/agent-<hash of .deb and base>/      dpkg -i of the agent, seconds
//! ```
//!
//! A build happens in a scratch directory and is renamed when it is complete, under a file lock, so
//! that two builders cannot meet and a killed one leaves nothing usable. The machine's own `/` is
//! never a lower layer: its packages change under the hosts' feet.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::error::HostError;
use crate::helper::ChrootTask;
use crate::local::Progress;
use crate::local::prune;
use crate::local::sources::{SUITE, apt_settings, apt_sources};
use crate::local::spawn::{Helper, Scratch};
use crate::local::tools::{
    check_mountable, failed, lock_file, make_dirs, need, remove_tree, spawn_error, sync_dir, write_atomic,
};

/// Raise it when the way the image is made changes.
const RECIPE_VERSION: u32 = 1;

/// What an operator would bake into a VM image: no ZooKeeper and the like, nodes install those.
const PACKAGES: [&str; 12] = [
    "adduser",
    "ca-certificates",
    "curl",
    "default-jre",
    "init-system-helpers",
    "iproute2",
    "iputils-ping",
    "netbase",
    "procps",
    "puppet-agent",
    "python3",
    "sysvinit-utils",
];

/// What our images tell apt and dpkg: small, quick, and no questions.
const APT_CONF: &str = "APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\nDir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\n";
const DPKG_CFG: &str = "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\npath-exclude=/usr/share/info/*\n";
/// Packages must not start services in a host: Puppet does.
const POLICY_RC: &str = "#!/bin/sh\nexit 101\n";

/// The image store.
#[derive(Debug, Clone)]
pub struct Images {
    /// The cache directory.
    pub cache: PathBuf,
    /// How to run a command inside an image.
    pub helper: Helper,
    /// A mirror instead of the machine's apt sources.
    pub mirror: Option<String>,
}

impl Images {
    /// The directory of the base image, whether it was built or not.
    pub fn base(&self) -> PathBuf {
        let mut hash = Sha256::new();
        let parts = [SUITE, APT_CONF, DPKG_CFG, POLICY_RC, &PACKAGES.join(" ")];
        hash.update(RECIPE_VERSION.to_be_bytes());
        parts.iter().for_each(|part| hash.update(format!("{}:{part}", part.len())));
        self.cache.join(format!("base-{}", short(hash)))
    }

    /// Makes sure that base and agent layer exist; gives them topmost first. Blocking.
    pub fn prepare(&self, agent_deb: &Path, progress: &Progress) -> Result<Vec<PathBuf>, HostError> {
        check_mountable(&self.cache)?;
        make_dirs(&self.cache)?;
        let base = self.base();
        self.once(&base, |scratch| self.build_base(scratch, progress))?;
        let mut hash = Sha256::new();
        hash.update(base.to_string_lossy().as_bytes());
        let mut deb = File::open(agent_deb).map_err(HostError::at("open the agent's package", agent_deb))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match deb.read(&mut buffer).map_err(HostError::at("read", agent_deb))? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        let layer = self.cache.join(format!("agent-{}", short(hash)));
        self.once(&layer, |scratch| self.build_agent(scratch, &base, agent_deb, progress))?;
        prune::prune(&self.cache, progress);
        Ok(vec![layer.join("upper"), base.join("upper")])
    }

    /// Builds a directory unless it exists: under a lock, in a scratch directory, renamed at the end.
    fn once(&self, target: &Path, build: impl FnOnce(&Path) -> Result<(), HostError>) -> Result<(), HostError> {
        if prune::used(target).is_ok() {
            return Ok(());
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lock = lock_file(&self.cache.join(format!(".{name}.lock")))?;
        lock.lock().map_err(HostError::at("lock", target))?;
        if prune::used(target).is_ok() {
            return Ok(());
        }
        let scratch = Scratch::make(&self.cache, &format!(".{name}.new"))?;
        build(scratch.path())?;
        for part in ["work", "root"] {
            remove_tree(&scratch.path().join(part))?;
        }
        let file = File::open(scratch.path()).map_err(HostError::at("open", scratch.path()))?;
        nix::unistd::syncfs(&file).map_err(HostError::at("sync", scratch.path()))?;
        fs::rename(scratch.path(), target).map_err(HostError::at("put in place", target))?;
        sync_dir(&self.cache)
    }

    fn build_base(&self, scratch: &Path, progress: &Progress) -> Result<(), HostError> {
        need("mmdebstrap")?;
        let sources = apt_sources(self.mirror.as_deref())?;
        progress(&format!("building the microhost image (Debian {SUITE}, once, about a minute)"));
        let root = scratch.join("upper");
        let mut command = Command::new("mmdebstrap");
        command.args(["--mode=root", "--variant=minbase", "--format=directory"]);
        command.arg(format!("--include={}", PACKAGES.join(",")));
        for line in APT_CONF.lines().map(str::to_owned).chain(apt_settings()?) {
            command.arg(format!("--aptopt={line}"));
        }
        for line in DPKG_CFG.lines() {
            command.arg(format!("--dpkgopt={line}"));
        }
        // Without manuals their directories are missing too, and Java's alternatives link into them.
        command.arg("--essential-hook=for n in 1 2 3 4 5 6 7 8; do mkdir -p \"$1/usr/share/man/man$n\"; done");
        command.arg(SUITE).arg(&root).args(&sources);
        run_with_progress("building the image with mmdebstrap", &mut command, progress)?;
        finish_base(&root)
    }

    fn build_agent(&self, scratch: &Path, base: &Path, deb: &Path, progress: &Progress) -> Result<(), HostError> {
        progress("installing the agent's package into the image");
        let bound = scratch.join("deb");
        make_dirs(&bound)?;
        fs::copy(deb, bound.join("agent.deb")).map_err(HostError::at("copy", deb))?;
        let task = ChrootTask {
            lower: vec![base.join("upper")],
            dir: scratch.to_owned(),
            binds: vec![(bound.clone(), "run/straas".into())],
            argv: ["dpkg", "--install", "/run/straas/agent.deb"].map(str::to_owned).to_vec(),
        };
        self.helper.chroot("installing the agent's package into the image", &task)?;
        remove_tree(&bound)
    }
}

/// What mmdebstrap leaves of the build machine goes; what every host needs comes.
fn finish_base(root: &Path) -> Result<(), HostError> {
    for dir in ["var/cache/apt/archives", "var/lib/apt/lists"] {
        remove_tree(&root.join(dir))?;
        make_dirs(&root.join(dir).join("partial"))?;
    }
    let files = [
        ("etc/apt/sources.list", "", 0o644),
        ("etc/apt/apt.conf.d/99mmdebstrap", "", 0o644),
        ("etc/apt/apt.conf.d/90straas", APT_CONF, 0o644),
        ("usr/sbin/policy-rc.d", POLICY_RC, 0o755),
        ("etc/resolv.conf", "", 0o644),
        ("etc/hostname", "microhost\n", 0o644),
        ("etc/machine-id", "", 0o444),
    ];
    for (path, content, mode) in files {
        let path = root.join(path);
        let _ = fs::remove_file(&path);
        write_atomic(&path, content.as_bytes(), mode)?;
    }
    Ok(())
}

/// Runs a long program and passes on its `I: ` lines.
fn run_with_progress(what: &str, command: &mut Command, progress: &Progress) -> Result<(), HostError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| spawn_error(what, command, e))?;
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            if let Some(text) = String::from_utf8_lossy(&line).strip_prefix("I: ") {
                progress(&format!("image: {text}"));
            }
            said.extend_from_slice(&line);
            said.push(b'\n');
        }
    }
    let status = child.wait().map_err(HostError::io(what))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(what, &std::process::Output { status, stdout: Vec::new(), stderr: said }))
}

/// The first half of a digest: enough to tell apart what one machine keeps.
pub fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
