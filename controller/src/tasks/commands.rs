//! Guest commands behind the scenes: notes which ones nodes have, brings batches forward, ends what
//! is overdue, prunes, and hears of what other controllers did.
//!
//! What several agents say at once is written at once: while one write is under way the next
//! gathers. Each thing done here is idempotent; whatever failed is done by a later turn.

use crate::app::App;
use crate::commands::Todo;
use crate::engine::Engine;
use crate::error::{Error, chain};
use crate::leases::Chore;
use std::collections::BTreeSet;
use std::sync::Arc;
use straas_schemas::NodeId;
use straas_store::PAGE_MAX;

/// Overdue commands are ended, and old ones pruned, at least so often.
const SETTLE_MS_MAX: i64 = 15_000;
/// A command may begin up to its deadline, and its node's next poll takes a moment: so long after
/// the deadline it is taken for expired.
const GRACE_MS: i64 = 2_000;

/// Runs until the controller stops and what nodes said is written.
pub async fn run(app: Arc<App>) {
    let mut stopping = app.stopping.clone();
    let mut looks = app.bell.looks();
    let mut seen = app.store.last_command_change().await.map(|number| (number, END.to_owned())).ok();
    let mut settle_ms = 0;
    loop {
        let stop = tokio::select! {
            () = app.commands.notified() => false,
            () = looks.next() => {
                if let Err(error) = hear(&app, &mut seen).await {
                    tracing::debug!(error = error.chain(), "cannot read which commands changed");
                }
                false
            }
            () = stopping.requested() => true,
        };
        let todo = app.commands.take();
        if let Err(error) = work(&app, todo).await {
            tracing::warn!(error = error.chain(), "cannot write what nodes said of commands; they say it again");
        }
        if stop {
            return;
        }
        if !app.leases.has(Chore::Commands) {
            // another controller ends them, or this one as soon as it has the chore
            settle_ms = 0;
            continue;
        }
        if settle_ms <= app.now_ms() {
            match settle(&app).await {
                Ok(next) => settle_ms = next,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "cannot end overdue commands; trying again");
                    settle_ms = app.now_ms() + 1_000;
                }
            }
        }
        if let Ok(Some(deadline)) = app.store.next_deadline().await {
            settle_ms = settle_ms.min(deadline + GRACE_MS).max(app.now_ms());
        }
    }
}

/// Above every id: changes of a number that is given out are all seen.
const END: &str = "\u{10ffff}";

/// Writes what nodes said and brings batches forward.
///
/// # Errors
/// The store's; nodes say it again.
pub async fn work(app: &Engine, todo: Todo) -> Result<(), Error> {
    let started: Vec<_> = todo.started.into_iter().collect();
    if !started.is_empty() {
        let started = app.store.start_commands(&started, app.now_ms()).await?;
        app.commands_changed(&started).await;
    }
    for batch in &todo.batches {
        let changed = app.store.advance_batch(batch, app.now_ms()).await?;
        app.commands_changed(&changed).await;
        app.commands.touch(batch);
    }
    let ended: Vec<_> = todo.ended.into_iter().collect();
    if !ended.is_empty() {
        app.store.prune_commands(&ended).await?;
    }
    Ok(())
}

/// Ends what is overdue; when to do so again.
///
/// # Errors
/// The store's.
pub async fn settle(app: &Engine) -> Result<i64, Error> {
    let ended = app.store.settle_commands(app.now_ms(), GRACE_MS).await?;
    app.commands_changed(&ended).await;
    // a batch whose last end was recorded by a controller that then died
    let open = app.store.open_batches().await?;
    app.commands.add(|todo| todo.batches.extend(open));
    Ok(app.now_ms() + SETTLE_MS_MAX)
}

/// Hears of what other controllers did: their nodes may poll here, and people may wait here.
///
/// # Errors
/// The store cannot be read.
pub async fn hear(app: &Engine, seen: &mut Option<(i64, String)>) -> Result<(), Error> {
    let Some((number, id)) = seen else {
        *seen = Some((app.store.last_command_change().await?, END.to_owned()));
        return Ok(());
    };
    let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
    loop {
        let changes = app.store.command_changes((*number, id), PAGE_MAX).await?;
        let Some(last) = changes.last() else { break };
        (*number, *id) = (last.number, last.id.to_string());
        for change in changes {
            app.commands.touch(change.id.as_str());
            let Some(slot) = app.fleet.get(&change.node) else { continue };
            let open = !change.standing.is_final() && !change.held;
            let running = change.standing == straas_schemas::command::CommandStanding::Running;
            let news = if open {
                !slot.orders.has(&change.id, running, change.cancelling)
            } else {
                slot.orders.knows(&change.id)
            };
            if news {
                if let Some(batch) = &change.batch {
                    app.commands.touch(batch);
                }
                nodes.insert(change.node);
            }
        }
    }
    for node in nodes {
        if let Err(error) = app.sync_orders(&node).await {
            tracing::debug!(%node, error = chain(&error), "cannot read its commands");
        }
    }
    Ok(())
}
