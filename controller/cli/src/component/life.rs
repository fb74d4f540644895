//! `straas component test`: the whole life of a component on hosts of this machine, with times.
//!
//! ```text
//!  create → config change → flexup → replace → (upgrade) → flexdown → restart → delete
//! ```
//! Against a controller of its own that is gone afterwards, or a given one. Each phase is a job; one
//! that does not succeed ends the test, and the hosts of a private controller go either way.

use super::check;
use crate::client::{Ask, Client};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{duration, print, table};
use crate::routes::{self, Route};
use crate::{Global, dev, job};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use straas_schemas::config::{ConfigFile, ValueKind};
use straas_schemas::configuration::{ConfigContent, ConfigNode, ConfigWrite, ConfigWritten};
use straas_schemas::job::{Job, JobStanding};
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::view::{ComponentView, TopologyView};

/// Dependencies of dependencies are created so deep.
const DEPTH_MAX: u32 = 8;

/// What to try.
#[derive(clap::Args)]
pub struct Args {
    /// The component type.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Folder of a component, laid over the built-in ones; may be given more than once.
    #[arg(long = "dir", value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// The version to end with; the type's default if absent.
    #[arg(long = "component-version", visible_alias = "to", value_name = "VERSION")]
    version: Option<String>,
    /// The version to begin with; there is no upgrade if absent.
    #[arg(long, value_name = "VERSION")]
    from: Option<String>,
    /// Nodes to begin with; the type's default if absent.
    #[arg(long)]
    size: Option<u32>,
    /// Use the controller that --endpoint or `straas dev up` names, not one of its own.
    #[arg(long, conflicts_with = "dirs")]
    given: bool,
}

/// How a phase went.
#[derive(Debug, Serialize)]
struct Phase {
    phase: &'static str,
    took_ms: u64,
    ended: String,
    /// What the scripts took on each node.
    nodes: BTreeMap<String, u64>,
}

/// Lives it.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let faults = check::faults(&args.dirs)?;
    if let Some(first) = faults.first() {
        return Err(CliError::Input(format!(
            "{first}\nsee all with: straas component check ({} in all)",
            faults.len()
        )));
    }
    if args.given {
        return live(&Client::new(global)?, &args, global).await;
    }
    let home = tempfile::Builder::new().prefix("straas-life-").tempdir_in("/var/tmp")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let dirs = args.dirs.iter().map(std::fs::canonicalize).collect::<Result<Vec<_>, _>>()?;
    let lived = match dev::private(home.path(), port, &dirs) {
        Ok(()) => {
            let token_file = Some(home.path().join("admin.token"));
            let context = Context { endpoint: format!("http://127.0.0.1:{port}"), token_file };
            live(&Client::with(context)?, &args, global).await
        }
        Err(error) => Err(error),
    };
    let gone = dev::down(home.path(), true);
    lived.and(gone)
}

async fn live(client: &Client, args: &Args, global: &Global) -> Result<(), CliError> {
    let mut life = Life { client, global, phases: Vec::new() };
    let outcome = life.phases(args).await;
    print(global.format(), &life.phases, |phases| {
        let row = |p: &Phase| {
            let nodes: Vec<String> = p.nodes.iter().map(|(name, ms)| format!("{name} {}", duration(*ms))).collect();
            vec![p.phase.to_owned(), duration(p.took_ms), p.ended.clone(), nodes.join(", ")]
        };
        table(&["phase", "took", "ended", "scripts on each node"], phases.iter().map(row))
    })?;
    // a test that fails is a failure, whatever it was
    outcome.map_err(|error| CliError::Local(format!("{} did not live its life: {}", args.kind, error.text())))
}

struct Life<'a> {
    client: &'a Client,
    global: &'a Global,
    phases: Vec<Phase>,
}

impl Life<'_> {
    async fn phases(&mut self, args: &Args) -> Result<(), CliError> {
        let meta = self.meta(&args.kind).await?;
        let to = args.version.clone().unwrap_or_else(|| meta.default_version.clone());
        let mut components = Vec::new();
        self.needed(&meta, &mut components, 0).await?;
        let depends: Vec<Value> = components.iter().map(|c| c["name"].clone()).collect();
        let mut own = json!({ "name": "it", "type": args.kind, "version": args.from.as_ref().unwrap_or(&to) });
        if !depends.is_empty() {
            // of its own kind of needs only: what those need in turn is theirs
            let direct = depends.iter().filter(|name| meta.dependencies.iter().any(|d| name.as_str() == Some(&d.kind)));
            own["depends_on"] = direct.cloned().collect::<Vec<_>>().into();
        }
        if let Some(size) = args.size {
            own["size"] = size.into();
        }
        components.push(own);
        let name = format!("life-{}", std::process::id());
        let body = json!({ "name": name, "availability_zone": "local", "components": components });
        let id = self.phase("create", routes::CREATE, &[], Some(&body)).await?;
        let (of, it) = self.it(&id).await?;
        if let Some(commit) = self.change_a_value(&of, &it).await? {
            self.phase("config change", routes::CONFIGURE, &[it.id.as_str(), &commit], Some(&json!({}))).await?;
        }
        let role = meta.default_role.as_str();
        let count = it.nodes.iter().filter(|node| node.role == role).count();
        let sizes = meta.role(role).and_then(|role| role.sizes).unwrap_or(meta.sizes);
        let more = if sizes.odd { 2 } else { 1 };
        let grows = count + more <= sizes.max as usize;
        if grows {
            let body = json!({ "count": more, "role": role });
            self.phase("flexup", routes::FLEXUP, &[it.id.as_str()], Some(&body)).await?;
        }
        if let Some(node) = it.nodes.iter().find(|node| node.role == role) {
            self.phase("replace", routes::REPLACE, &[node.id.as_str()], None).await?;
        }
        if args.from.as_ref().is_some_and(|from| *from != to) {
            self.phase("upgrade", routes::PATCH, &[it.id.as_str()], Some(&json!({ "version": to }))).await?;
        }
        if grows {
            let body = json!({ "size": count, "role": role });
            self.phase("flexdown", routes::PATCH, &[it.id.as_str()], Some(&body)).await?;
        }
        self.phase("restart", routes::COMPONENT_RESTART, &[it.id.as_str()], None).await?;
        self.phase("delete", routes::DELETE, &[&id], None).await?;
        Ok(())
    }

    /// Asks for a change and follows it to its end; the id of what was changed.
    async fn phase(
        &mut self,
        phase: &'static str,
        route: Route,
        parts: &[&str],
        body: Option<&Value>,
    ) -> Result<String, CliError> {
        anstream::eprintln!("--- {phase}");
        let begun = Instant::now();
        let mut ask = Ask::new(route, parts);
        if let Some(body) = body {
            ask = ask.body(body);
        }
        let answer: Value = self.client.call(ask).await?;
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        let Some(job) = answer["job"]["id"].as_str() else {
            return Err(CliError::Job(format!("{phase}: the controller found nothing to do")));
        };
        let ended = job::follow(self.client, job, crate::output::Format::Table).await?;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let how = crate::output::word(&ended.standing);
        self.phases.push(Phase { phase, took_ms, ended: how.clone(), nodes: scripts(&ended) });
        if ended.standing == JobStanding::Succeeded {
            return Ok(id);
        }
        Err(CliError::Job(format!("{phase}: {how}: {}", ended.detail)))
    }

    async fn meta(&self, kind: &str) -> Result<ComponentMeta, CliError> {
        let path = format!("metadata/{kind}.json");
        let node: ConfigNode = self.client.get(routes::CONFIG_READ, &["master", &path]).await?;
        let ConfigContent::File { content } = node.content else {
            return Err(CliError::Input(format!("{path} is a folder")));
        };
        serde_json::from_str(&content).map_err(|e| CliError::Input(format!("{path} cannot be read: {e}")))
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
            let mut component = json!({ "name": dependency.kind, "type": dependency.kind });
            if !own.is_empty() {
                component["depends_on"] = own.into();
            }
            found.push(component);
        }
        Ok(())
    }

    async fn it(&self, id: &str) -> Result<(TopologyView, ComponentView), CliError> {
        let topology: TopologyView = self.client.get(routes::TOPOLOGY, &[id]).await?;
        let found = topology.components.iter().find(|c| c.name == "it").cloned();
        found.map(|it| (topology, it)).ok_or_else(|| CliError::Local("the topology lost its component".into()))
    }

    /// Changes the first whole number that users may set, by one; none can be is no failure.
    async fn change_a_value(&self, of: &TopologyView, it: &ComponentView) -> Result<Option<String>, CliError> {
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
            let option = &mut changed.content[s].options[o];
            let Ok(number) = option.value.parse::<i64>() else { continue };
            if option.kind != ValueKind::Integer {
                continue;
            }
            option.value = (number + 1).to_string();
            let content = serde_json::to_string_pretty(&changed).unwrap_or_default() + "\n";
            let body = ConfigWrite { content, message: "component test: another value".into() };
            match self.client.call::<ConfigWritten>(Ask::new(routes::CONFIG_WRITE, &parts).body(&body)).await {
                Ok(done) => return Ok(Some(done.commit)),
                // outside of its limits: another one
                Err(CliError::Problem(problem)) if problem.status == 422 => {}
                Err(error) => return Err(error),
            }
        }
        if self.global.format() == crate::output::Format::Table {
            anstream::eprintln!("no whole number can be set by users, so no change of the configuration is tried");
        }
        Ok(None)
    }
}

/// What the scripts of a job took on each node.
fn scripts(job: &Job) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for node in job.steps.iter().flat_map(|step| &step.nodes) {
        if let Some(ms) = node.duration_ms {
            *out.entry(node.name.clone()).or_default() += ms;
        }
    }
    out
}
