//! A signed apt repository for nodes that cannot reach a mirror: it plays the operator's "nexus".
//!
//! For each request (`zookeeper=3.8.0*`) apt itself, run in a throw-away overlay over the image
//! with the machine's network, says what must be downloaded relative to the image. The files are
//! pooled, indexed with `apt-ftparchive`, signed with a key made once, and switched in by one
//! symlink. Somebody else serves the directory. A request that apt cannot satisfy is reported and
//! disturbs no other: the node's own apt-get then says what is missing. Packages of components,
//! which no mirror has, are made beforehand and offered to apt beside the mirror.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::agent::AptSource;
use crate::error::HostError;
use crate::helper::ChrootTask;
use crate::local::Progress;
use crate::local::components::{self, Components};
use crate::local::image::Images;
use crate::local::record::{read_json, write_json};
use crate::local::sources::{apt_settings, apt_sources};
use crate::local::spawn::Scratch;
use crate::local::tools::{lock_file, make_dirs, need, remove_tree, run, write_atomic};

/// The repository's suite.
const SUITE: &str = "stable";
/// The repository's component.
const COMPONENT: &str = "main";
/// Longest request: a package name, `=` and a version glob.
const REQUEST_LENGTH_MAX: usize = 200;

/// A repository that is ready to be served.
#[derive(Debug, Clone)]
pub struct PackageRepo {
    /// The directory to serve over HTTP; only files below it, the signing key is elsewhere.
    pub dir: PathBuf,
    /// The public key in ASCII armour, also inside `dir`.
    pub key_path: PathBuf,
    /// Its content.
    pub key_armored: String,
    /// What could not be had, and why.
    pub missing: Vec<MissingPackage>,
}

/// A request that apt could not satisfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPackage {
    /// As it was asked for.
    pub request: String,
    /// apt's own words.
    pub reason: String,
}

impl PackageRepo {
    /// What a node must be told, given where the directory is served.
    pub fn source(&self, base_url: &str) -> AptSource {
        AptSource {
            url: base_url.trim_end_matches('/').to_owned(),
            suite: SUITE.into(),
            component: COMPONENT.into(),
            key_armored: self.key_armored.clone(),
        }
    }
}

/// What the repository holds: request → files. A file of its own, so that a repeated request costs
/// no process.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    requests: BTreeMap<String, BTreeSet<String>>,
    /// Of files that were made here: where from. The same name with another content has another.
    #[serde(default)]
    origins: BTreeMap<String, PathBuf>,
}

/// The directories of one repository; there is one per base image.
struct Places {
    served: PathBuf,
    pool: PathBuf,
    apt: PathBuf,
    keys: PathBuf,
    manifest: PathBuf,
    index_cache: PathBuf,
}

/// Makes sure that everything asked for is in the repository. Blocking.
pub fn provide(
    images: &Images,
    components: Option<&Path>,
    requests: &[String],
    progress: &Progress,
) -> Result<PackageRepo, HostError> {
    for request in requests {
        check_request(request)?;
    }
    let base = images.base();
    let tag = base.file_name().unwrap_or_default().to_string_lossy().replace("base-", "");
    let served = images.cache.join(format!("repo-{tag}"));
    let apt = images.cache.join(format!("apt-{tag}"));
    let places = Places {
        pool: served.join("pool"),
        manifest: apt.join("manifest.json"),
        index_cache: apt.join("index.db"),
        keys: images.cache.join("signing"),
        served,
        apt,
    };
    for dir in [&places.pool, &places.apt] {
        make_dirs(dir)?;
    }
    let lock = lock_file(&places.apt.join("lock"))?;
    lock.lock().map_err(HostError::at("lock", &places.apt))?;

    let made = components::build(components, progress);
    let mut manifest: Manifest = read_json(&places.manifest)?.unwrap_or_default();
    let current = |file: &String| made.debs.get(file).is_none_or(|from| manifest.origins.get(file) == Some(from));
    let held = |files: &BTreeSet<String>| files.iter().all(|file| places.pool.join(file).exists() && current(file));
    let wanted: Vec<&String> =
        requests.iter().filter(|request| !manifest.requests.get(*request).is_some_and(held)).collect();
    let mut missing = Vec::new();
    if !wanted.is_empty() {
        missing = fetch(images, &places, &made, &wanted, &mut manifest, progress)?;
    }
    let key_path = places.served.join("straas.asc");
    if missing.len() < wanted.len() || !places.served.join("dists").exists() {
        progress("signing the package repository");
        index(&places)?;
        sign(&places, &key_path)?;
        write_json(&places.manifest, &manifest)?;
    }
    let key_armored = fs::read_to_string(&key_path).map_err(HostError::at("read", &key_path))?;
    Ok(PackageRepo { dir: places.served, key_path, key_armored, missing })
}

/// Requests become arguments of apt inside a throw-away overlay: no options, no paths.
fn check_request(request: &str) -> Result<(), HostError> {
    let fine = request.len() <= REQUEST_LENGTH_MAX
        && request.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && request.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.=:~*".contains(&b));
    if fine {
        return Ok(());
    }
    let shown: String = request.chars().take(80).collect();
    Err(HostError::Invalid { field: "package", reason: format!("{shown:?} is not like name or name=version*") })
}

/// Downloads what each request needs into the pool.
fn fetch(
    images: &Images,
    places: &Places,
    made: &Components,
    wanted: &[&String],
    manifest: &mut Manifest,
    progress: &Progress,
) -> Result<Vec<MissingPackage>, HostError> {
    let archives = places.apt.join("archives");
    let lists = places.apt.join("lists");
    let config = places.apt.join("config");
    let offer = places.apt.join("offer");
    for dir in [archives.join("partial"), lists.join("partial"), config.clone()] {
        make_dirs(&dir)?;
    }
    made.offer(&offer)?;
    let mut sources = apt_sources(images.mirror.as_deref())?.join("\n") + "\n";
    sources.push_str("deb [trusted=yes] file:/run/straas-offer ./\n");
    write_atomic(&config.join("sources.list"), sources.as_bytes(), 0o644)?;
    let mut settings = apt_settings()?.join("\n");
    settings.push_str(
        "\nDir::Etc::sourcelist \"/run/straas-apt/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
         APT::Keep-Downloaded-Packages \"true\";\nAPT::Sandbox::User \"root\";\nDebug::NoLocking \"true\";\n",
    );
    write_atomic(&config.join("apt.conf"), settings.as_bytes(), 0o644)?;

    let scratch = Scratch::make(&images.cache, &format!(".fetch-{}", std::process::id()))?;
    let apt = |what: &str, words: &[&str]| {
        let mut argv = vec![
            "env".into(),
            "APT_CONFIG=/run/straas-apt/apt.conf".into(),
            "apt-get".into(),
            "-q".into(),
            "-y".into(),
        ];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        let task = ChrootTask {
            lower: vec![images.base().join("upper")],
            dir: scratch.path().to_owned(),
            binds: vec![
                (config.clone(), "run/straas-apt".into()),
                (archives.clone(), "var/cache/apt/archives".into()),
                (lists.clone(), "var/lib/apt/lists".into()),
                (offer.clone(), "run/straas-offer".into()),
            ],
            argv,
        };
        images.helper.chroot(what, &task)
    };
    progress("reading the package lists of the mirror");
    apt("apt-get update for the package repository", &["update"])?;
    let mut missing = Vec::new();
    for request in wanted {
        progress(&format!("downloading {request} and what it needs"));
        let request = request.as_str();
        let listed = apt(&format!("resolving {request}"), &["--print-uris", "install", request]);
        let done = listed.and_then(|text| {
            apt(&format!("downloading {request}"), &["--download-only", "install", request])?;
            let files = uri_files(&text);
            for file in &files {
                match made.debs.get(file) {
                    Some(from) => renew_in_pool(from, &places.pool.join(file))?,
                    None => put_in_pool(&archives.join(file), &places.pool.join(file))?,
                }
            }
            Ok(files)
        });
        match done {
            Ok(files) => {
                let own = files.iter().filter_map(|file| Some((file.clone(), made.debs.get(file)?.clone())));
                manifest.origins.extend(own);
                manifest.requests.insert(request.to_owned(), files);
            }
            Err(HostError::Command { output, .. }) => {
                let reason = match &made.failure {
                    Some(why) => format!("{output}; packages of components could not be made: {why}"),
                    None => output,
                };
                missing.push(MissingPackage { request: request.to_owned(), reason });
            }
            Err(other) => return Err(other),
        }
    }
    Ok(missing)
}

fn put_in_pool(from: &Path, to: &Path) -> Result<(), HostError> {
    if to.exists() {
        return Ok(());
    }
    // One file, two names: archives and pool are in the same cache directory.
    fs::hard_link(from, to).map_err(HostError::at("put into the pool", to))
}

/// Puts a package in the pool that may be there with an older content.
fn renew_in_pool(from: &Path, to: &Path) -> Result<(), HostError> {
    let mut new = to.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let _ = fs::remove_file(&new);
    components::put(from, &new)?;
    fs::rename(&new, to).map_err(HostError::at("put into the pool", to))
}

/// File names in the output of `apt-get --print-uris`: lines like `'URI' NAME SIZE HASH`.
fn uri_files(text: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let mut words = line.split(' ');
        words.next().filter(|uri| uri.starts_with('\'') && uri.ends_with('\''))?;
        words.next().filter(|name| name.ends_with(".deb") && !name.contains('/')).map(str::to_owned)
    };
    text.lines().filter_map(name).collect()
}

/// Writes the indexes beside the current ones.
fn index(places: &Places) -> Result<(), HostError> {
    need("apt-ftparchive")?;
    let arch = run("asking dpkg for the architecture", Command::new("dpkg").arg("--print-architecture"))?;
    let arch = String::from_utf8_lossy(&arch.stdout).trim().to_owned();
    let new = places.served.join(".dists.new");
    remove_tree(&new)?;
    let binary = new.join(SUITE).join(COMPONENT).join(format!("binary-{arch}"));
    make_dirs(&binary)?;
    let mut packages = Command::new("apt-ftparchive");
    packages.current_dir(&places.served).arg("--db").arg(&places.index_cache).args(["packages", "pool"]);
    let packages = run("indexing the package repository", &mut packages)?;
    write_atomic(&binary.join("Packages"), &packages.stdout, 0o644)?;
    let mut release = Command::new("apt-ftparchive");
    for (key, value) in [
        ("Origin", "StraaS"),
        ("Suite", SUITE),
        ("Codename", SUITE),
        ("Components", COMPONENT),
        ("Architectures", &arch),
    ] {
        release.arg("-o").arg(format!("APT::FTPArchive::Release::{key}={value}"));
    }
    release.arg("release").arg(new.join(SUITE));
    let release = run("making the Release file", &mut release)?;
    write_atomic(&new.join(SUITE).join("Release"), &release.stdout, 0o644)
}

/// Signs the new indexes and switches to them: `dists` is a symlink, replaced by a rename.
fn sign(places: &Places, key_path: &Path) -> Result<(), HostError> {
    need("gpg")?;
    if !places.keys.exists() {
        fs::DirBuilder::new().mode(0o700).create(&places.keys).map_err(HostError::at("create", &places.keys))?;
    }
    let gpg = || {
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", &places.keys).args([
            "--batch",
            "--yes",
            "--no-tty",
            "--quiet",
            "--pinentry-mode",
            "loopback",
        ]);
        command
    };
    let lock = lock_file(&places.keys.join("straas.lock"))?;
    lock.lock().map_err(HostError::at("lock", &places.keys))?;
    let signed = (|| {
        let made = places.keys.join("straas.made");
        if !made.exists() {
            let who = "StraaS local packages <packages@localhost>";
            run(
                "making the signing key",
                gpg().args(["--passphrase", "", "--quick-generate-key", who, "rsa3072", "sign", "never"]),
            )?;
            write_atomic(&made, b"", 0o600)?;
        }
        let key = run("exporting the signing key", gpg().args(["--armor", "--export"]))?;
        write_atomic(key_path, &key.stdout, 0o644)?;
        let suite = places.served.join(".dists.new").join(SUITE);
        run(
            "signing the package repository",
            gpg()
                .args(["--passphrase", "", "--clearsign", "--output"])
                .arg(suite.join("InRelease"))
                .arg(suite.join("Release")),
        )
    })();
    // The agent that gpg starts would outlive us.
    let _ = run("ending gpg's agent", Command::new("gpgconf").env("GNUPGHOME", &places.keys).args(["--kill", "all"]));
    signed?;
    switch(places)
}

fn switch(places: &Places) -> Result<(), HostError> {
    let dists = places.served.join("dists");
    let old = fs::read_link(&dists).ok();
    let name = if old.as_deref() == Some(Path::new(".dists.a")) { ".dists.b" } else { ".dists.a" };
    let target = places.served.join(name);
    remove_tree(&target)?;
    fs::rename(places.served.join(".dists.new"), &target).map_err(HostError::at("put in place", &target))?;
    let link = places.served.join(".dists.link");
    let _ = fs::remove_file(&link);
    symlink(name, &link).map_err(HostError::at("link", &link))?;
    fs::rename(&link, &dists).map_err(HostError::at("put in place", &dists))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_options_or_paths_are_refused() {
        for bad in ["", "-o", "--allow", "a b", "a;b", "../x", "a/b", "./x.deb", "A", &"a".repeat(201)] {
            assert!(check_request(bad).is_err(), "{bad:?}");
        }
        for good in ["zookeeper", "zookeeper=3.8.0*", "libstdc++6", "openjdk-17-jre=17.0.1+2-1~deb12u1", "g++"] {
            assert!(check_request(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn file_names_are_read_from_apt() {
        let text = "Reading package lists...\n'http://m.example/pool/z/zookeeper_3.8.0-11_all.deb' zookeeper_3.8.0-11_all.deb 144 SHA256:aa\n'x' ../../evil.deb 1 x\n";
        assert_eq!(uri_files(text), BTreeSet::from(["zookeeper_3.8.0-11_all.deb".to_owned()]));
    }
}
