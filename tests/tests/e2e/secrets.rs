//! A secret of a configuration is looked for wherever it should not be: process lists while everything runs, logs and output,
//! answers, the controller's disk with its database and repositories; and on its node, where others than root could read it.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use straas_schemas::view::Accepted;
use straas_tests::{Cluster, say, scene};

const TREE: &str = "/configurations/tree";
/// ZooKeeper makes a system property of a key that it does not know.
const KEY: &str = "ownWord";
/// Between two looks at all processes: the shortest-lived ones are missed now and then, the stages never.
const PACE: Duration = Duration::from_millis(5);

/// Looks at the arguments of every process of this machine, whatever namespace it is in.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(BTreeSet<String>, Vec<String>)>,
}

impl Watch {
    fn begin(secrets: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (end, secrets) = (stop.clone(), secrets.iter().map(|secret| (*secret).to_owned()).collect::<Vec<_>>());
        let thread = std::thread::spawn(move || {
            let (mut names, mut found) = (BTreeSet::new(), Vec::new());
            while !end.load(Ordering::Relaxed) {
                for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let Ok(arguments) = std::fs::read(process.path().join("cmdline")) else { continue };
                    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
                    if secrets.iter().any(|secret| arguments.contains(secret)) {
                        found.push(arguments.clone());
                    }
                    names.insert(arguments.chars().take(200).collect());
                }
                // waits for: nothing; so often is looked
                std::thread::sleep(PACE);
            }
            (names, found)
        });
        Self { stop, thread }
    }

    /// What was seen, and what of it had a secret.
    fn end(self) -> Result<(BTreeSet<String>, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the watch broke off"))
    }
}

/// Writes the secret into a file of a branch.
async fn set(cluster: &Cluster, branch: &str, file: &str, value: &str) -> Result<()> {
    let path = format!("{TREE}/{branch}/app/zookeeper/3.8.0/{file}");
    let read: Value = cluster.api.get(&path).await?;
    let mut document: Value = serde_json::from_str(read["content"].as_str().context("no content")?)?;
    let sections = document["content"].as_array_mut().context("no sections")?;
    let section = sections.iter_mut().find(|section| section["section"] == "zoo_cfg").context("no zoo_cfg")?;
    let options = section["options"].as_array_mut().context("no options")?;
    options.retain(|option| option["key"] != KEY);
    options.push(json!({ "key": KEY, "value": value, "type": "string", "secret": true }));
    let body = json!({ "content": document.to_string(), "message": "a word of our own" });
    let _: Value = cluster.api.call(Method::PUT, &path, Some(&body)).await?;
    Ok(())
}

/// Everything that the API says to a reader of everything.
async fn answers(cluster: &Cluster, accepted: &Accepted) -> Result<String> {
    let topology = cluster.api.topology(&accepted.id).await?;
    let component = &topology.components[0];
    let node = &cluster.api.nodes().await?[0].id;
    let mut all = String::new();
    for path in [
        format!("/topologies/{}", accepted.id),
        format!("/components/{}", component.id),
        format!("/nodes/{node}"),
        format!("/nodes/{node}/history"),
        format!("/jobs/{}", accepted.job.id),
        format!("/configurations/effective/{}", component.id),
        "/configurations/log/master".to_owned(),
        format!("{TREE}/master/app/zookeeper/3.8.0/default.json"),
        format!("{TREE}/quiet@az1/app/zookeeper/3.8.0/user.json"),
        "/audit".to_owned(),
        "/commands".to_owned(),
    ] {
        let answer: Value = cluster.api.get(&path).await?;
        all.push_str(&answer.to_string());
    }
    let metrics = cluster.api.request(Method::GET, "/metrics", None).await?;
    all.push_str(&String::from_utf8_lossy(&metrics.into_body().collect().await?.to_bytes()));
    for event in cluster.events(accepted.id.as_str()).await? {
        all.push_str(&serde_json::to_string(&event)?);
    }
    Ok(all)
}

/// Files below a directory that hold a text, but in `except`.
fn holding(dir: &Path, text: &str, except: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && path != except {
            found.extend(holding(&path, text, except));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_secret_is_nowhere_but_where_it_is_used() {
    scene("a_secret_is_nowhere_but_where_it_is_used", async |cluster| {
        let (first, second) = ("the-fox-of-marrakesh", "the-owl-of-timbuktu");
        let watch = Watch::begin(&[first, second]);
        cluster.start().await?;
        for file in ["default.json", "user.json"] {
            set(cluster, "master", file, first).await?;
        }
        let accepted = cluster.create("quiet", "3.8.0", 1).await?;
        let topology = cluster.active(&accepted).await?;
        // a value of its own instead
        let component = &topology.components[0].id;
        set(cluster, "quiet@az1", "user.json", second).await?;
        let apply = format!("/components/{component}/tree/quiet@az1");
        let changed: Accepted = cluster.api.call(Method::PUT, &apply, None).await?;
        cluster.active(&changed).await?;
        let node = "quiet-zk-1";
        let (seen, found) = watch.end()?;
        let config = cluster.sh(node, &format!("grep -rl {second} /etc /opt /srv 2>/dev/null || true")).await?;
        ensure!(!config.trim().is_empty(), "the service was not configured with it, so nothing is shown");
        for word in ["puppet", "pre_config", "validate.sh", "zookeeper"] {
            ensure!(seen.iter().any(|arguments| arguments.contains(word)), "no process of {word} was seen");
        }
        ensure!(found.is_empty(), "a process had it in its arguments: {found:?}");
        let answers = answers(cluster, &accepted).await?;
        let journal =
            cluster.sh(node, "cat /var/log/straas*/* /var/log/straas* /run/straas*/*.log 2>/dev/null; true").await?;
        let hosts = cluster.data().join("hosts");
        for secret in [first, second] {
            ensure!(!answers.contains(secret), "an answer has it");
            ensure!(!journal.contains(secret), "a log of the node has it");
            let kept = holding(cluster.data(), secret, &hosts);
            ensure!(kept.is_empty(), "the controller's disk has it: {kept:?}");
        }
        // on the node: whoever is not root or the service finds nothing
        let reader = format!(
            "setpriv --reuid=nobody --regid=nogroup --clear-groups grep -rlI -e {first} -e {second} --exclude-dir=proc --exclude-dir=sys / \
             2>/dev/null; true"
        );
        let open = cluster.sh(node, &reader).await?;
        ensure!(open.trim().is_empty(), "anybody on the node can read it in: {open}");
        let all = format!("grep -rlI -e {first} -e {second} --exclude-dir=proc --exclude-dir=sys / 2>/dev/null; true");
        let kept = cluster.sh(node, &all).await?;
        say(&format!(
            "  {} command lines of processes, {} KiB of answers, the controller's disk: none has it; on the node {} files have it, \
             none of which anybody but root and its service can read",
            seen.len(),
            answers.len() / 1024,
            kept.lines().count()
        ));
        Ok(())
    });
}
