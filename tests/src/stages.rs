//! Scripts of a component that count their runs and stop where a test wants to step in.
//!
//! A shim stands before the real script of each stage: it writes a line into a file of the host,
//! waits for another file if it was told to, and becomes the real script. Installing has no script
//! of its own: there the package's post-installation script is counted and held, which is where a
//! package manager likes a `kill -9` least.

use crate::cluster::{Cluster, STEP_MAX};
use crate::wait;
use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use straas_repos::Change;
use straas_schemas::Stage;

/// Who commits.
pub const AUTHOR: &str = "e2e <e2e@example.org>";
/// Where the files are, in each host; it outlasts a reboot.
const DIR: &str = "/var/tmp/straas-e2e";

/// Scripts of ZooKeeper, for the stages that have one.
const SCRIPTS: [(Stage, &str); 3] = [
    (Stage::PreConfig, "pre_config/zookeeper"),
    (Stage::Config, "cmd/default/runpuppet.sh"),
    (Stage::Validate, "cmd/zookeeper/default/validate.sh"),
];

/// A place at which a node can be held: a stage's name, or [`DOWNLOAD`].
pub type Point = &'static str;
/// Before apt asks for its lists.
pub const DOWNLOAD: Point = "download";

/// Puts the shims in place, before the controller's first start; `hold` names nodes and the points
/// at which each waits until [`release`].
///
/// # Errors
/// The repo refused.
pub fn instrument(cluster: &mut Cluster, hold: &[(&str, Point)]) -> Result<()> {
    let scripts = cluster.scripts()?;
    let head = scripts.head()?;
    let mut changes = Vec::new();
    for (stage, path) in SCRIPTS {
        let real = scripts.read(&head, path)?.with_context(|| format!("the script repo has no {path}"))?;
        let shim = format!(
            "#!/bin/bash\n# counts the runs of the real script, and holds it where a test wants to step in\n\
             {}\nexec \"${{BASH_SOURCE[0]}}.real\" \"$@\"\n",
            shell(stage.name(), hold)
        );
        changes.push(Change::Put { path: format!("{path}.real"), content: real, executable: Some(true) });
        changes.push(Change::Put { path: path.to_owned(), content: shim.into(), executable: Some(true) });
    }
    scripts.commit(None, &changes, "count and hold", AUTHOR)?;

    let install = format!(
        "#!/bin/bash\n# held inside the package's own script\nif [ \"$DPKG_MAINTSCRIPT_PACKAGE\" = zookeeper ]; then\n{}\nfi\n\
         exec /usr/bin/update-alternatives \"$@\"\n",
        shell(Stage::Install.name(), hold)
    );
    let download = format!("#!/bin/bash\n{}\n", shell(DOWNLOAD, hold));
    // apt's own PATH has no /usr/local
    let apt = "DPkg::Path \"/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin\";\n\
               APT::Update::Pre-Invoke {\"/usr/local/sbin/e2e-download\";};\n";
    for (path, content, mode) in [
        ("/etc/apt/apt.conf.d/99e2e", apt, "0o644"),
        ("/usr/local/sbin/e2e-download", download.as_str(), "0o755"),
        ("/usr/local/sbin/update-alternatives", install.as_str(), "0o755"),
    ] {
        let source = cluster.data().join(path.rsplit('/').next().unwrap_or(path));
        std::fs::write(&source, content)?;
        let _ = write!(cluster.settings, "[[files]]\npath = {path:?}\nsource = {source:?}\nmode = {mode}\n");
    }
    Ok(())
}

/// Shell that counts a run, and on certain nodes waits for the release.
fn shell(point: &str, hold: &[(&str, Point)]) -> String {
    let nodes: Vec<&str> = hold.iter().filter(|(_, held)| *held == point).map(|(node, _)| *node).collect();
    format!(
        "mkdir -p {DIR}\necho run >> {DIR}/{point}.runs\ncase \" {} \" in *\" $(hostname) \"*)\n  touch {DIR}/{point}.held\n  \
         while [ ! -e {DIR}/{point}.go ]; do echo held; sleep 0.1; done ;;\nesac",
        nodes.join(" ")
    )
}

/// Waits until a node stands at the hold of a stage.
///
/// # Errors
/// It never came there.
pub async fn held(cluster: &Cluster, node: &str, point: Point) -> Result<()> {
    let mark = format!("{DIR}/{point}.held");
    let is_there = async || cluster.exec(node, &["test", "-e", &mark]).await.ok().filter(|ran| ran.code == 0);
    wait(&format!("{node} to be held at {point}"), STEP_MAX, is_there).await.map(drop)
}

/// Lets a node go on.
///
/// # Errors
/// Its host does not run.
pub async fn release(cluster: &Cluster, node: &str, point: Point) -> Result<()> {
    cluster.sh(node, &format!("touch {DIR}/{point}.go")).await.map(drop)
}

/// How often a stage's script was started on a node.
///
/// # Errors
/// Its host does not run.
pub async fn runs(cluster: &Cluster, node: &str, point: Point) -> Result<usize> {
    let text = cluster.sh(node, &format!("cat {DIR}/{point}.runs 2>/dev/null || true")).await?;
    Ok(text.lines().count())
}
