//! A script that can be held on single nodes at any time, and that counts its runs.
//!
//! Unlike `stages.rs`, which decides at the start where nodes wait, a brake is pulled and let go
//! while everything runs. Looks for drift pass: they change nothing.

use crate::cluster::{Cluster, STEP_MAX};
use crate::stages::AUTHOR;
use crate::wait;
use anyhow::{Context as _, Result};
use straas_repos::Change;

/// The script that disturbs a service.
pub const CONFIG: &str = "cmd/default/runpuppet.sh";
/// Where the files are, in each host.
const DIR: &str = "/var/tmp/straas-brake";

impl Cluster {
    /// Builds a brake before a script; before the controller's first start.
    ///
    /// # Errors
    /// The repo refused.
    pub fn build_brake(&self, script: &str) -> Result<()> {
        let scripts = self.scripts()?;
        let head = scripts.head()?;
        let real = scripts.read(&head, script)?.with_context(|| format!("the script repo has no {script}"))?;
        let shim = format!(
            "#!/bin/bash\n# counts the runs of the real script, and waits while a test holds it\n\
             if [ \"${{STRAAS_NOOP:-0}}\" != 1 ]; then\n  mkdir -p {DIR}\n  echo run >> {DIR}/runs\n  \
             while [ -e {DIR}/pulled ]; do touch {DIR}/stands; echo held; sleep 0.1; done\nfi\n\
             exec \"${{BASH_SOURCE[0]}}.real\" \"$@\"\n"
        );
        let put = |path: String, content: Vec<u8>| Change::Put { path, content, executable: Some(true) };
        let changes = [put(format!("{script}.real"), real), put(script.to_owned(), shim.into())];
        scripts.commit(None, &changes, "a brake", AUTHOR)?;
        Ok(())
    }

    /// Holds the next run on each of these nodes.
    ///
    /// # Errors
    /// A host does not run.
    pub async fn pull_brake(&self, nodes: &[String]) -> Result<()> {
        for node in nodes {
            self.sh(node, &format!("mkdir -p {DIR}; rm -f {DIR}/stands; touch {DIR}/pulled")).await?;
        }
        Ok(())
    }

    /// Lets these nodes go on.
    ///
    /// # Errors
    /// A host does not run.
    pub async fn release_brake(&self, nodes: &[String]) -> Result<()> {
        for node in nodes {
            self.sh(node, &format!("rm -f {DIR}/pulled")).await?;
        }
        Ok(())
    }

    /// Whether a run stands at the brake.
    pub async fn stands(&self, node: &str) -> bool {
        let look = format!("[ -e {DIR}/pulled ] && [ -e {DIR}/stands ]");
        self.exec(node, &["sh", "-c", &look]).await.is_ok_and(|ran| ran.code == 0)
    }

    /// The first of these nodes that comes to stand.
    ///
    /// # Errors
    /// None did in time.
    pub async fn first_to_stand(&self, nodes: &[String]) -> Result<String> {
        wait("a node to stand at the brake", STEP_MAX, async || {
            for node in nodes {
                if self.stands(node).await {
                    return Some(node.clone());
                }
            }
            None
        })
        .await
    }

    /// How often the script was started on a node.
    ///
    /// # Errors
    /// Its host does not run.
    pub async fn braked_runs(&self, node: &str) -> Result<usize> {
        Ok(self.sh(node, &format!("cat {DIR}/runs 2>/dev/null || true")).await?.lines().count())
    }
}
