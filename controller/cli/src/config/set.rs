//! `straas config set`: some values of a component, in one commit, and applied if that is wanted.
//!
//! Reads `user.json` as the branch has it, changes values, and writes it back under the condition
//! that the branch did not move; a lost race is tried again with what is there then.

use super::show;
use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::mutation::{self, How, Rollout};
use crate::output::print;
use crate::{find, routes};
use straas_schemas::config::ConfigFile;
use straas_schemas::configuration::{ConfigContent, ConfigNode, ConfigWrite, ConfigWritten};

/// How often a file is read anew because somebody else wrote to the branch meanwhile.
const RACES_MAX: u32 = 5;

/// What was asked for.
pub struct Order {
    /// The topology.
    pub topology: String,
    /// The component.
    pub component: String,
    /// `SECTION.KEY=VALUE`.
    pub values: Vec<String>,
    /// Why.
    pub message: Option<String>,
    /// The nodes take it up.
    pub apply: bool,
    /// How they do.
    pub rollout: Rollout,
    /// Predict, wait.
    pub how: How,
}

/// Carries it out.
pub async fn run(client: &Client, order: Order, global: &Global) -> Result<(), CliError> {
    let (topology, component) = find::component(client, &order.topology, &order.component).await?;
    let path = format!("app/{}/{}/user.json", component.kind, component.version);
    let wanted = parsed(&order.values)?;
    let message = order.message.clone().unwrap_or_else(|| format!("{}: set {}", component.name, names(&wanted)));
    let parts = [topology.branch.as_str(), path.as_str()];
    let mut races = 0;
    let done = loop {
        let node: ConfigNode = client.get(routes::CONFIG_READ, &parts).await?;
        let ConfigContent::File { content } = &node.content else {
            return Err(CliError::Local(format!("{path} is a folder")));
        };
        let (content, changes) = edited(content, &wanted, &path)?;
        if order.how.dry_run {
            let text = if changes.is_empty() {
                "nothing would change".to_owned()
            } else {
                format!(
                    "nothing was changed; this would be written to {}:\n  {}",
                    topology.branch,
                    changes.join("\n  ")
                )
            };
            return print(global.format(), &changes, |_| text);
        }
        let body = ConfigWrite { content, message: message.clone() };
        let ask = Ask::new(routes::CONFIG_WRITE, &parts).body(&body).if_at(&node.commit);
        match client.call::<ConfigWritten>(ask).await {
            Err(CliError::Problem(problem)) if problem.status == 412 && races < RACES_MAX => races += 1,
            other => break other?,
        }
    };
    if !order.apply {
        return print(global.format(), &done, |done| {
            let hint = format!("apply it with: straas component configure {} {}", topology.name, component.name);
            if done.changed { format!("{}\n{hint}", show::written(done)) } else { show::written(done) }
        });
    }
    if done.changed {
        anstream::eprintln!("{}", show::written(&done));
    }
    let options = order.rollout.options().unwrap_or_default();
    let parts = [component.id.as_str(), done.commit.as_str()];
    mutation::send(client, Ask::new(routes::CONFIGURE, &parts).body(&options), order.how, global).await
}

struct Wanted {
    section: String,
    key: String,
    value: String,
}

fn names(wanted: &[Wanted]) -> String {
    wanted.iter().map(|w| format!("{}.{}", w.section, w.key)).collect::<Vec<_>>().join(", ")
}

/// A key may have dots of its own: the first one ends the section.
fn parsed(values: &[String]) -> Result<Vec<Wanted>, CliError> {
    let one = |text: &String| {
        let (name, value) = text.split_once('=')?;
        let (section, key) = name.split_once('.')?;
        let given = !section.is_empty() && !key.is_empty();
        given.then(|| Wanted { section: section.into(), key: key.into(), value: value.into() })
    };
    values
        .iter()
        .map(|text| one(text).ok_or_else(|| CliError::Input(format!("{text:?} is not SECTION.KEY=VALUE"))))
        .collect()
}

/// The file with the values in it, and what changed, in words.
fn edited(content: &str, wanted: &[Wanted], path: &str) -> Result<(String, Vec<String>), CliError> {
    let unreadable = |e| CliError::Local(format!("{path} cannot be read: {e}"));
    let mut file: ConfigFile = serde_json::from_str(content).map_err(unreadable)?;
    let (mut changes, mut unknown) = (Vec::new(), Vec::new());
    for w in wanted {
        let sections = file.content.iter_mut().filter(|section| section.section == w.section);
        match sections.flat_map(|section| &mut section.options).find(|option| option.key == w.key) {
            None => unknown.push(format!("{}.{}", w.section, w.key)),
            Some(option) if option.value == w.value => {}
            Some(option) => {
                changes.push(format!("{}.{}: {} → {}", w.section, w.key, option.value, w.value));
                option.value.clone_from(&w.value);
            }
        }
    }
    if !unknown.is_empty() {
        let known = file.content.iter().flat_map(|s| s.options.iter().map(|o| format!("{}.{}", s.section, o.key)));
        let known: Vec<String> = known.collect();
        let text = format!("{} cannot be set by users; these can: {}", unknown.join(", "), known.join(", "));
        return Err(CliError::Input(text));
    }
    if changes.is_empty() {
        return Ok((content.to_owned(), changes));
    }
    let text = serde_json::to_string_pretty(&file).map_err(unreadable)?;
    Ok((text + "\n", changes))
}
