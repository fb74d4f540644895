//! `straas command run`: send, then show what comes until it is over.

use super::{Order, live, show, standing};
use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::guestcmd;
use crate::output::{Format, print, table};
use crate::{find, routes};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use straas_schemas::command::{BatchView, CommandBatchRequest, CommandRequest, CommandStanding, CommandView};

/// Exit code of a command that had none of its own, as `env` and `timeout` have it.
const NO_CODE: u8 = 125;
/// Longest result in a table; `command show` has all of it.
const SAID_MAX: usize = 100;
/// One look at a batch waits at most so long for its end; what ended meanwhile is told then.
const LOOK: &str = "2s";

/// Carries it out.
pub async fn run(client: &Client, order: Order, global: &Global) -> Result<(), CliError> {
    let args = arguments(client, &order).await?;
    match (&order.node, &order.topology) {
        (Some(node), _) => on_one(client, node, args, &order, global).await,
        (None, Some(topology)) => on_many(client, topology, args, &order, global).await,
        (None, None) => Err(CliError::Input("name a --node or a --topology".into())),
    }
}

async fn on_one(
    client: &Client,
    node: &str,
    args: Map<String, Value>,
    order: &Order,
    global: &Global,
) -> Result<(), CliError> {
    let node = find::node(client, node).await?;
    let (command, timeout_s, deadline_s) = (order.command.clone(), order.timeout_s, order.deadline_s);
    let request = CommandRequest { command, args, timeout_s, deadline_s };
    let ask = Ask::new(routes::NODE_COMMANDS, &[node.id.as_str()]).body(&request);
    let begun: CommandView = client.call(ask).await?;
    if order.no_wait {
        return print(global.format(), &begun, |c| format!("queued on {}: straas command show {}", c.node_name, c.id));
    }
    let shown = global.format() == Format::Table;
    ended(client, &live::follow(client, begun.id.as_str(), shown).await?, global).await
}

/// The end of a command whose output was shown, or is to be printed with everything else.
pub async fn ended(client: &Client, ended: &CommandView, global: &Global) -> Result<(), CliError> {
    if global.format() != Format::Table {
        // with the output, which the stream's last picture has not
        let whole: CommandView = client.get(routes::COMMAND, &[ended.id.as_str()]).await?;
        print(global.format(), &whole, show)?;
    }
    finish(ended)
}

/// The command's own exit code; what it did not say itself is said here.
fn finish(c: &CommandView) -> Result<(), CliError> {
    let end = c.end.as_ref();
    if c.standing == CommandStanding::Succeeded {
        return Ok(());
    }
    let reason = end.map(|end| end.reason.as_str()).filter(|reason| !reason.is_empty());
    anstream::eprintln!(
        "{} on {}: {}{}",
        c.command,
        c.node_name,
        standing(c),
        reason.map(|reason| format!(": {}", crate::output::clean(reason))).unwrap_or_default()
    );
    if let Some(hint) = end.and_then(|end| end.hint.as_deref()) {
        anstream::eprintln!("hint: {}", crate::output::clean(hint));
    }
    let code = end.and_then(|end| end.exit_code).and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    Err(CliError::Command(code.unwrap_or(NO_CODE)))
}

async fn on_many(
    client: &Client,
    topology: &str,
    args: Map<String, Value>,
    order: &Order,
    global: &Global,
) -> Result<(), CliError> {
    let request = CommandBatchRequest {
        command: order.command.clone(),
        args,
        timeout_s: order.timeout_s,
        deadline_s: order.deadline_s,
        role: order.role.clone(),
        concurrency: order.concurrency,
        max_errors: order.max_errors,
    };
    let (route, id) = match &order.component {
        Some(name) => (routes::COMPONENT_COMMANDS, find::component(client, topology, name).await?.1.id.0),
        None => (routes::TOPOLOGY_COMMANDS, find::topology(client, topology).await?.id.0),
    };
    let mut now: BatchView = client.call(Ask::new(route, &[id.as_str()]).body(&request)).await?;
    if order.no_wait {
        return print(global.format(), &now, batch);
    }
    let mut told = BTreeSet::new();
    while now.ended_ms.is_none() {
        now = client.call(Ask::new(routes::BATCH, &[now.id.as_str()]).with("wait", LOOK)).await?;
        let ended = now.commands.iter().filter(|c| c.standing.is_final());
        for c in ended {
            if told.insert(c.id.clone()) {
                anstream::eprintln!("{}: {} ({} of {})", c.node_name, standing(c), told.len(), now.commands.len());
            }
        }
    }
    print(global.format(), &now, batch)?;
    let bad = now.commands.iter().filter(|c| c.standing != CommandStanding::Succeeded).count();
    if bad == 0 {
        return Ok(());
    }
    Err(CliError::Job {
        text: format!("{} did not succeed on {bad} of {} nodes", now.command, now.commands.len()),
        hint: Some("straas command show ID   (with the id of one of them: its output)".into()),
    })
}

/// A command on many nodes.
pub fn batch(batch: &BatchView) -> String {
    let row = |c: &CommandView| vec![c.node_name.clone(), standing(c), said(c), c.id.to_string()];
    let ended = if batch.ended_ms.is_some() { "ended" } else { "goes on" };
    let counts: Vec<String> = batch.counts.iter().map(|(how, number)| format!("{number} {how}")).collect();
    let (command, id) = (&batch.command, &batch.id);
    let mut out = format!("batch of {command}: {ended}, {}  id {id}\n", counts.join(", "));
    out.push_str(&table(&["node", "state", "result", "id"], batch.commands.iter().map(row)));
    if batch.ended_ms.is_none() {
        out.push_str(&format!("\nfollow it: straas command show {id}; end it: straas command cancel {id}"));
    }
    out
}

/// What came of a command, as much of it as fits beside others.
fn said(c: &CommandView) -> String {
    let text = match &c.end {
        Some(end) if !end.reason.is_empty() => end.reason.clone(),
        Some(end) if !end.result.is_empty() => Value::Object(end.result.clone()).to_string(),
        _ => "-".to_owned(),
    };
    if text.chars().count() <= SAID_MAX { text } else { text.chars().take(SAID_MAX).chain(['…']).collect() }
}

/// The arguments in the types that the command's schema gives them.
async fn arguments(client: &Client, order: &Order) -> Result<Map<String, Value>, CliError> {
    if order.values.is_empty() {
        return Ok(Map::new());
    }
    let offer = guestcmd::offer(client, None).await?;
    let schema = &offer.find(&order.command)?.meta.arguments;
    let mut out = Map::new();
    for text in &order.values {
        let Some((name, value)) = text.split_once('=') else {
            return Err(CliError::Input(format!("{text:?} is not ARGUMENT=VALUE")));
        };
        out.insert(name.to_owned(), typed(&schema["properties"][name]["type"], value));
    }
    Ok(out)
}

/// What cannot be read in its type goes as text: the controller says what is wrong with it.
fn typed(kind: &Value, value: &str) -> Value {
    let text = || Value::from(value);
    let is = |wanted: &str| kind == wanted || kind.as_array().is_some_and(|kinds| kinds.iter().any(|k| k == wanted));
    if is("integer") || is("number") || is("boolean") || is("array") || is("object") {
        return serde_json::from_str(value).unwrap_or_else(|_| text());
    }
    text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_have_the_types_of_the_schema() {
        for (kind, text, expect) in [
            (json!("string"), "12", json!("12")),
            (json!("integer"), "12", json!(12)),
            (json!("integer"), "twelve", json!("twelve")),
            (json!("boolean"), "true", json!(true)),
            (json!(["integer", "null"]), "3", json!(3)),
            (Value::Null, "x", json!("x")),
        ] {
            assert_eq!(typed(&kind, text), expect, "{kind} {text}");
        }
    }
}
