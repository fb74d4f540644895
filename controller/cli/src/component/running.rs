//! Components that run: show them, and change what they should be.

use super::{Change, Verb, Which};
use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::mutation;
use crate::output::{print, table, word};
use crate::routes::{self, Route};
use crate::{find, topology};
use serde_json::{Value, json};
use straas_schemas::change::{ComponentPatch, FlexupRequest};
use straas_schemas::configuration::CommitView;
use straas_schemas::view::{ComponentView, Page, TopologyView};

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::List { topology } => {
            let found = find::topology(&client, &topology).await?.components;
            print(global.format(), &found, |all| list(all))
        }
        Verb::Show(which) => print(global.format(), &one(&client, &which).await?.1, show),
        Verb::Flexup { which, count, role, how } => {
            let id = one(&client, &which).await?.1.id;
            let ask = Ask::new(routes::FLEXUP, &[id.as_str()]).body(&FlexupRequest { count, role });
            mutation::send(&client, ask, how, global).await
        }
        Verb::Flexdown { which, count, role, how } => {
            let component = one(&client, &which).await?.1;
            let size = fewer(&component, role.as_deref(), count)?;
            let patch = ComponentPatch { size: Some(size), role, ..ComponentPatch::default() };
            let ask = Ask::new(routes::PATCH, &[component.id.as_str()]).body(&patch);
            mutation::send(&client, ask, how, global).await
        }
        Verb::Patch { which, version, size, role, config, rollout, how } => {
            let (of, component) = one(&client, &which).await?;
            let config = match config {
                Some(reference) => Some(on(&client, &of, &reference).await?),
                None => None,
            };
            let patch = ComponentPatch { version, size, role, config, rollout: rollout.options() };
            let ask = Ask::new(routes::PATCH, &[component.id.as_str()]).body(&patch);
            mutation::send(&client, ask, how, global).await
        }
        Verb::Upgrade { which, version, rollout, how } => {
            let id = one(&client, &which).await?.1.id;
            let patch =
                ComponentPatch { version: Some(version), rollout: rollout.options(), ..ComponentPatch::default() };
            mutation::send(&client, Ask::new(routes::PATCH, &[id.as_str()]).body(&patch), how, global).await
        }
        Verb::Configure { which, reference, rollout, how } => {
            let (of, component) = one(&client, &which).await?;
            let reference = match reference {
                Some(reference) => on(&client, &of, &reference).await?,
                None => of.branch.clone(),
            };
            let options = rollout.options().unwrap_or_default();
            let ask = Ask::new(routes::CONFIGURE, &[component.id.as_str(), &reference]).body(&options);
            mutation::send(&client, ask, how, global).await
        }
        Verb::Rollback { which, reference, how } => {
            let (of, component) = one(&client, &which).await?;
            let reference = match reference {
                Some(reference) => on(&client, &of, &reference).await?,
                None => before(&client, &component).await?,
            };
            let ask = Ask::new(routes::CONFIGURE, &[component.id.as_str(), &reference]);
            mutation::send(&client, ask, how, global).await
        }
        Verb::Remove(change) => apply(&client, routes::REMOVE, change, global).await,
        Verb::Start(change) => apply(&client, routes::COMPONENT_START, change, global).await,
        Verb::Stop(change) => apply(&client, routes::COMPONENT_STOP, change, global).await,
        Verb::Restart(change) => apply(&client, routes::COMPONENT_RESTART, change, global).await,
        Verb::Dependencies(which) => {
            let id = one(&client, &which).await?.1.id;
            let answer: Value = client.call(Ask::new(routes::DEPENDENCIES, &[id.as_str()]).body(&json!({}))).await?;
            print(global.format(), &answer, dependencies)
        }
        Verb::Depend { which, on, how, .. } => {
            let id = one(&client, &which).await?.1.id;
            let ask = Ask::new(routes::DEPENDENCIES, &[id.as_str()]).body(&json!({ "depends_on": on }));
            mutation::send(&client, ask, how, global).await
        }
        Verb::New(_) | Verb::Check(_) | Verb::Test(_) | Verb::Add(_) | Verb::Health(_) | Verb::Flavors { .. } => {
            Err(CliError::Local("not of a running component".into()))
        }
    }
}

async fn one(client: &Client, which: &Which) -> Result<(TopologyView, ComponentView), CliError> {
    find::component(client, &which.topology, &which.component).await
}

async fn apply(client: &Client, route: Route, change: Change, global: &Global) -> Result<(), CliError> {
    let id = one(client, &change.which).await?.1.id;
    mutation::send(client, Ask::new(route, &[id.as_str()]), change.how, global).await
}

/// A ref as a user of this topology means it: also a tag of its branch by its bare name.
async fn on(client: &Client, topology: &TopologyView, wanted: &str) -> Result<String, CliError> {
    let reference = find::reference(client, wanted).await?;
    let commit = reference.len() == 40 && reference.bytes().all(|b| b.is_ascii_hexdigit());
    let bare = !commit && !reference.contains(['@', '&']) && reference != "master";
    Ok(if bare { format!("{}&{reference}", topology.branch) } else { reference })
}

/// The commit of its own files before the one that the component has.
async fn before(client: &Client, component: &ComponentView) -> Result<String, CliError> {
    let folder = format!("app/{}/{}", component.kind, component.version);
    let query = [("limit", "2".to_owned())];
    let page: Page<CommitView> = client.page(routes::CONFIG_LOG, &[&component.config, &folder], &query, None).await?;
    // what the newest of the two replaced is what stood just before it
    page.items.into_iter().nth(1).map(|commit| commit.commit).ok_or_else(|| CliError::NotFound {
        text: format!("{} has had one configuration only at version {}", component.name, component.version),
        hint: "straas config log TOPOLOGY",
    })
}

fn fewer(component: &ComponentView, role: Option<&str>, count: u32) -> Result<u32, CliError> {
    let of = |role: &str| component.nodes.iter().filter(|node| node.role == role).count();
    let mut roles: Vec<&str> = component.nodes.iter().map(|node| node.role.as_str()).collect();
    roles.sort_unstable();
    roles.dedup();
    let role = match (role, roles.as_slice()) {
        (Some(role), _) => role,
        (None, [only]) => only,
        (None, several) => {
            return Err(CliError::Input(format!("name a role with --role; there are: {}", several.join(", "))));
        }
    };
    let now = u32::try_from(of(role)).unwrap_or(u32::MAX);
    match now.checked_sub(count) {
        Some(size) if size > 0 => Ok(size),
        _ => Err(CliError::Input(format!("{} has {now} nodes of the role {role}; at least one stays", component.name))),
    }
}

fn list(all: &[ComponentView]) -> String {
    let row = |c: &ComponentView| {
        let depends = if c.depends_on.is_empty() { "-".to_owned() } else { c.depends_on.join(" ") };
        vec![
            c.name.clone(),
            c.kind.clone(),
            c.version.clone(),
            word(&c.status),
            c.nodes.len().to_string(),
            depends,
            c.rollout.as_ref().map_or_else(|| "-".to_owned(), |rollout| word(&rollout.phase)),
        ]
    };
    table(&["component", "type", "version", "status", "nodes", "depends on", "rollout"], all.iter().map(row))
}

fn show(component: &ComponentView) -> String {
    let mut out = format!(
        "component {}  {} {}  {}  id {}\n",
        component.name,
        component.kind,
        component.version,
        word(&component.status),
        component.id
    );
    out.push_str(&format!("  config   {}\n  scripts  {}\n", component.config, component.scripts));
    if !component.depends_on.is_empty() {
        out.push_str(&format!("  depends on {}\n", component.depends_on.join(", ")));
    }
    out.push_str(&topology::rollout(component));
    out.push_str(&topology::nodes(component));
    out
}

fn dependencies(answer: &Value) -> String {
    let mut rows = Vec::new();
    for (key, how) in [("depends_on", "needs"), ("dependents", "is needed by")] {
        for other in answer[key].as_array().into_iter().flatten() {
            let text = |key: &str| other[key].as_str().unwrap_or("-").to_owned();
            let required = if other["required"] == true { "yes" } else { "no" };
            rows.push(vec![how.to_owned(), text("name"), text("type"), text("status"), required.to_owned()]);
        }
    }
    table(&["how", "component", "type", "status", "required"], rows)
}
