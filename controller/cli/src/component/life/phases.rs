//! The phases of a component's life: what is asked for in each, and whether it came about.
//!
//! Asks the API for everything, as a user would; after each phase the component has to be what was
//! asked for, whatever its job says.

use super::{Args, Phase, Report};
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::job::{self, Took};
use crate::output::{Format, duration, word};
use crate::routes::{self, Route};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use straas_schemas::NodeId;
use straas_schemas::config::{ConfigFile, ValueKind};
use straas_schemas::configuration::{ConfigContent, ConfigNode, ConfigWrite, ConfigWritten};
use straas_schemas::job::{Job, JobStanding, Progress};
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::view::{ComponentView, Standing, TopologyView};

/// The topology of a private controller.
pub const TOPOLOGY: &str = "life";
/// The component in it.
const IT: &str = "it";
/// Dependencies of dependencies are created so deep.
const DEPTH_MAX: u32 = 8;
/// What a word and what an upper bound on it mean for versions: the numbers in it, in their order.
type Rank = Vec<u64>;

/// A life under way.
pub struct Life<'a> {
    client: &'a Client,
    limit: Duration,
    patience: Duration,
    name: String,
    /// What became of it so far.
    pub report: Report,
}

/// What a phase asks for.
struct Wish<'a> {
    phase: &'static str,
    what: String,
    route: Route,
    parts: &'a [&'a str],
    body: Option<Value>,
}

/// What the component has to be after a phase.
struct Expect<'a> {
    version: &'a str,
    role: &'a str,
    count: usize,
}

impl<'a> Life<'a> {
    /// A life against a controller; a shared one may have seen others.
    pub fn new(client: &'a Client, limit: Duration, patience: Duration, shared: bool) -> Self {
        let name = if shared { format!("{TOPOLOGY}-{}", std::process::id()) } else { TOPOLOGY.to_owned() };
        Self { client, limit, patience, name, report: Report::default() }
    }

    /// Lives it.
    ///
    /// # Errors
    /// Why it did not come to its end.
    pub async fn lived(&mut self, args: &Args) -> Result<(), CliError> {
        let meta = self.meta(&args.kind).await?;
        let to = args.version.clone().unwrap_or_else(|| meta.default_version.clone());
        let from = match &args.from {
            Some(from) => from.clone(),
            None => older(&meta, &to).unwrap_or_else(|| to.clone()),
        };
        for version in [&from, &to] {
            if !meta.versions.contains_key(version) {
                let known: Vec<&str> = meta.versions.keys().map(String::as_str).collect();
                let text = format!("{} has no version {version:?}; there are: {}", args.kind, known.join(", "));
                return Err(CliError::Input(text));
            }
        }
        (self.report.kind, self.report.from, self.report.to) = (args.kind.clone(), from.clone(), to.clone());
        let role = meta.default_role.as_str();
        let sizes = meta.sizes_of(role);
        let count = args.size.unwrap_or(sizes.default) as usize;
        let body = self.request(&meta, &from, args.size).await?;
        let others = body["components"].as_array().into_iter().flatten().filter(|c| c["name"] != IT);
        let others: Vec<&str> = others.filter_map(|c| c["type"].as_str()).collect();
        let mut what = format!("{} {from}: {count} {role}", args.kind);
        if !others.is_empty() {
            what.push_str(&format!(", with {}", others.join(", ")));
        }
        let create = Wish { phase: "create", what, route: routes::CREATE, parts: &[], body: Some(body) };
        let id = self.phase(create).await?;
        let (of, it) = self.holds(&id, &Expect { version: &from, role, count }).await?;
        let own = [it.id.as_str()];

        match self.another_value(&of, &it).await? {
            Some((commit, what)) => {
                let parts = [it.id.as_str(), &commit];
                let body = Some(json!({}));
                self.phase(Wish { phase: "config change", what, route: routes::CONFIGURE, parts: &parts, body })
                    .await?;
            }
            None => self.skipped("config change", "users may set no whole number".into()),
        }
        let more = if sizes.odd { 2 } else { 1 };
        let grows = count + more <= sizes.max as usize;
        let grown = if grows { count + more } else { count };
        if grows {
            let body = Some(json!({ "count": more, "role": role }));
            let what = format!("{count} → {grown} {role}");
            self.phase(Wish { phase: "flexup", what, route: routes::FLEXUP, parts: &own, body }).await?;
            self.holds(&id, &Expect { version: &from, role, count: grown }).await?;
        } else {
            self.skipped("flexup", format!("{} {role} are the most", sizes.max));
        }
        if let Some(node) = it.nodes.iter().find(|node| node.role == role) {
            let what = format!("{} gets a new host", self.short(&node.name));
            let parts = [node.id.as_str()];
            self.phase(Wish { phase: "replace", what, route: routes::REPLACE, parts: &parts, body: None }).await?;
            self.holds(&id, &Expect { version: &from, role, count: grown }).await?;
        }
        if from == to {
            self.skipped("upgrade", format!("{} has no version older than {to}", args.kind));
        } else {
            let what = format!("{from} → {to}");
            let body = Some(json!({ "version": to }));
            self.phase(Wish { phase: "upgrade", what, route: routes::PATCH, parts: &own, body }).await?;
            self.holds(&id, &Expect { version: &to, role, count: grown }).await?;
        }
        if grows {
            let body = Some(json!({ "size": count, "role": role }));
            let what = format!("{grown} → {count} {role}");
            self.phase(Wish { phase: "flexdown", what, route: routes::PATCH, parts: &own, body }).await?;
            self.holds(&id, &Expect { version: &to, role, count }).await?;
        } else {
            self.skipped("flexdown", "it did not grow".into());
        }
        let what = "every node, one after the other".to_owned();
        let restart = Wish { phase: "restart", what, route: routes::COMPONENT_RESTART, parts: &own, body: None };
        self.phase(restart).await?;
        self.holds(&id, &Expect { version: &to, role, count }).await?;
        let what = "the whole topology".to_owned();
        self.phase(Wish { phase: "delete", what, route: routes::DELETE, parts: &[&id], body: None }).await?;
        match self.client.get::<TopologyView>(routes::TOPOLOGY, &[&id]).await {
            Err(error) if Client::is_missing(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(CliError::job("delete: the topology is still there")),
        }
    }

    fn skipped(&mut self, phase: &'static str, why: String) {
        anstream::eprintln!("--- {phase}: skipped: {why}");
        let nodes = Default::default();
        self.report.phases.push(Phase { phase, what: why, took_ms: 0, ended: "skipped".into(), nodes });
    }

    /// A node's name without that of the topology.
    fn short<'n>(&self, node: &'n str) -> &'n str {
        node.strip_prefix(self.name.as_str()).map_or(node, |rest| rest.trim_start_matches('-'))
    }

    /// Asks for a change and follows it to its end; the id of what was changed.
    async fn phase(&mut self, wish: Wish<'_>) -> Result<String, CliError> {
        let Wish { phase, what, route, parts, body } = wish;
        anstream::eprintln!("--- {phase}: {what}");
        let begun = Instant::now();
        let mut ask = Ask::new(route, parts);
        if let Some(body) = &body {
            ask = ask.body(body);
        }
        let answer: Value = self.client.call(ask).await?;
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        let job: Option<Job> = serde_json::from_value(answer["job"].clone()).ok().flatten();
        let Some(job) = job else {
            return Err(CliError::job(format!("{phase}: the controller found nothing to do")));
        };
        let (patience, mut failing) = (self.patience, Failing::new());
        let hopeless = move |job: &Job| job::held(job).or_else(|| fails_for_ever(job, &mut failing, patience));
        let followed = job::follow(self.client, job.id.as_str(), Some(&job), Format::Table, hopeless);
        let followed = tokio::time::timeout(self.limit, followed).await;
        let (ended, took, stopped) = match followed {
            Ok(followed) => {
                let followed = followed?;
                (followed.job, followed.took, followed.stopped)
            }
            Err(_) => {
                let now: Job = self.client.get(routes::JOB, &[job.id.as_str()]).await?;
                (now, Took::default(), Some(format!("not done after {}", duration(self.limit.as_millis() as u64))))
            }
        };
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let how = if stopped.is_some() { "given up".to_owned() } else { word(&ended.standing) };
        let nodes = took.by_node().into_iter().map(|(node, ms)| (self.short(&node).to_owned(), ms)).collect();
        self.report.phases.push(Phase { phase, what, took_ms, ended: how.clone(), nodes });
        if ended.standing == JobStanding::Succeeded {
            return Ok(id);
        }
        self.report.failure = said(&ended);
        let why = stopped.unwrap_or_else(|| format!("{}: {how}", ended.detail));
        Err(CliError::job(format!("{phase}: {why}")))
    }

    /// Whether the component is what it should be, and works; the topology and it.
    async fn holds(&self, id: &str, expect: &Expect<'_>) -> Result<(TopologyView, ComponentView), CliError> {
        let topology: TopologyView = self.client.get(routes::TOPOLOGY, &[id]).await?;
        let found = topology.components.iter().find(|c| c.name == IT).cloned();
        let it = found.ok_or_else(|| CliError::job("the topology lost its component"))?;
        let count = it.nodes.iter().filter(|node| node.role == expect.role).count();
        if count != expect.count {
            return Err(CliError::job(format!("there are {count} {}, not {}", expect.role, expect.count)));
        }
        if it.version != expect.version {
            return Err(CliError::job(format!("it has version {}, not {}", it.version, expect.version)));
        }
        if it.status != Standing::Active {
            let why: Vec<String> = it.nodes.iter().map(|node| format!("{}: {}", node.name, node.why.text)).collect();
            return Err(CliError::job(format!("its job is done, but it is {}: {}", word(&it.status), why.join("; "))));
        }
        Ok((topology, it))
    }

    async fn meta(&self, kind: &str) -> Result<ComponentMeta, CliError> {
        let path = format!("metadata/{kind}.json");
        let node: ConfigNode = match self.client.get(routes::CONFIG_READ, &["master", &path]).await {
            Err(error) if Client::is_missing(&error) => {
                let text = format!("there is no component type {kind}: no {path}; name its folder with --dir");
                return Err(CliError::Input(text));
            }
            other => other?,
        };
        let ConfigContent::File { content } = node.content else {
            return Err(CliError::Input(format!("{path} is a folder")));
        };
        serde_json::from_str(&content).map_err(|e| CliError::Input(format!("{path} cannot be read: {e}")))
    }

    /// A topology of the component and of what it cannot do without.
    async fn request(&self, meta: &ComponentMeta, version: &str, size: Option<u32>) -> Result<Value, CliError> {
        let mut components = Vec::new();
        self.needed(meta, &mut components, 0).await?;
        // only its own needs: what those need in turn is theirs
        let own: Vec<&str> = meta.dependencies.iter().filter(|d| d.required).map(|d| d.kind.as_str()).collect();
        let mut it = described(IT, meta, &own);
        it["version"] = version.into();
        if let Some(size) = size {
            match it["submodules"].as_array_mut() {
                None => it["size"] = size.into(),
                Some(roles) => {
                    let default = roles.iter_mut().find(|sub| sub["role"] == meta.default_role.as_str());
                    default.into_iter().for_each(|sub| sub["size"] = size.into());
                }
            }
        }
        components.push(it);
        Ok(json!({ "name": self.name, "availability_zone": "local", "components": components }))
    }

    /// What has to be there first, each type once, by its type's name.
    async fn needed(&self, meta: &ComponentMeta, found: &mut Vec<Value>, depth: u32) -> Result<(), CliError> {
        for dependency in meta.dependencies.iter().filter(|d| d.required && depth < DEPTH_MAX) {
            if found.iter().any(|c| c["type"] == dependency.kind.as_str()) {
                continue;
            }
            let theirs = self.meta(&dependency.kind).await?;
            Box::pin(self.needed(&theirs, found, depth + 1)).await?;
            let own: Vec<&str> = theirs.dependencies.iter().filter(|d| d.required).map(|d| d.kind.as_str()).collect();
            found.push(described(&dependency.kind, &theirs, &own));
        }
        Ok(())
    }

    /// Changes the first whole number that users may set, by one: the commit, and what was changed.
    async fn another_value(&self, of: &TopologyView, it: &ComponentView) -> Result<Option<(String, String)>, CliError> {
        let path = format!("app/{}/{}/user.json", it.kind, it.version);
        let parts = [of.branch.as_str(), path.as_str()];
        let node: ConfigNode = match self.client.get(routes::CONFIG_READ, &parts).await {
            Err(error) if Client::is_missing(&error) => return Ok(None),
            other => other?,
        };
        let ConfigContent::File { content } = &node.content else { return Ok(None) };
        let file: ConfigFile =
            serde_json::from_str(content).map_err(|e| CliError::Local(format!("{path} cannot be read: {e}")))?;
        let places: Vec<(usize, usize)> =
            file.content.iter().enumerate().flat_map(|(s, c)| (0..c.options.len()).map(move |o| (s, o))).collect();
        for (s, o) in places {
            let mut changed = file.clone();
            let section = &mut changed.content[s];
            let option = &mut section.options[o];
            let Ok(number) = option.value.parse::<i64>() else { continue };
            if option.kind != ValueKind::Integer {
                continue;
            }
            let next = number.saturating_add(1);
            let what = format!("{}.{} {number} → {next}", section.section, option.key);
            option.value = next.to_string();
            let content = serde_json::to_string_pretty(&changed).unwrap_or_default() + "\n";
            let body = ConfigWrite { content, message: format!("component test: {what}") };
            match self.client.call::<ConfigWritten>(Ask::new(routes::CONFIG_WRITE, &parts).body(&body)).await {
                Ok(done) => return Ok(Some((done.commit, what))),
                // outside of its limits: another one
                Err(CliError::Problem(problem)) if problem.status == 422 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// A component as a request has it: with every role it has.
fn described(name: &str, meta: &ComponentMeta, depends_on: &[&str]) -> Value {
    let mut component = json!({ "name": name, "type": meta.kind });
    if !depends_on.is_empty() {
        component["depends_on"] = depends_on.into();
    }
    if meta.roles.len() > 1 {
        let roles = meta.roles.iter().map(|role| json!({ "role": role.name, "name": role.name }));
        component["submodules"] = roles.collect::<Vec<_>>().into();
    }
    component
}

/// The newest version that is older than another.
fn older(meta: &ComponentMeta, than: &str) -> Option<String> {
    let known = meta.versions.keys().filter(|version| rank(version) < rank(than));
    known.max_by_key(|version| rank(version)).cloned()
}

fn rank(version: &str) -> Rank {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Since when a node fails a step.
type Failing = BTreeMap<(String, NodeId), Instant>;

/// What fails for so long that it will not get better by itself.
fn fails_for_ever(job: &Job, since: &mut Failing, patience: Duration) -> Option<String> {
    for step in &job.steps {
        for node in &step.nodes {
            let key = (step.id.clone(), node.node.clone());
            match node.progress {
                // between two failures it runs
                Progress::Running if since.contains_key(&key) => {}
                Progress::Retrying => {
                    let failing = since.entry(key).or_insert_with(Instant::now).elapsed();
                    if failing >= patience {
                        let (name, stage, tries) = (&node.name, step.stage.name(), node.attempt);
                        let long = duration(u64::try_from(failing.as_millis()).unwrap_or(u64::MAX));
                        return Some(format!("{stage} fails on {name} for {long} and {tries} tries: {}", node.detail));
                    }
                }
                _ => drop(since.remove(&key)),
            }
        }
    }
    None
}

/// What the nodes of a job that did not go well have to say: those that fail, or all that are not done.
fn said(job: &Job) -> Vec<String> {
    let all = || job.steps.iter().flat_map(|step| step.nodes.iter().map(move |node| (step, node)));
    let failing: Vec<_> = all().filter(|(_, node)| node.progress == Progress::Retrying).collect();
    let open = || all().filter(|(_, node)| !matches!(node.progress, Progress::Done | Progress::Pending)).collect();
    let told: Vec<_> = if failing.is_empty() { open() } else { failing };
    told.into_iter().map(|(step, node)| format!("{}  {}", step.id, job::node_line(node))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_the_order_of_their_numbers() {
        assert!(rank("3.10.1") > rank("3.9.2"));
        assert!(rank("2.0") < rank("2.0.1") && rank("1.0-rc2") > rank("1.0-rc1"));
    }
}
