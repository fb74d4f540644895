//! Operations that the planner asks for: guest commands with an id derived from what they are for,
//! so that a plan carried out twice queues them once.

use crate::engine::{Engine, blocking};
use crate::error::Error;
use straas_planner::{OperationWish, Plan, PlanInput};
use straas_schemas::ComponentId;
use straas_schemas::command::{COMMAND_DEADLINE_S, CommandStanding};
use straas_store::{CommandRecord, StoreError};

/// Who asks for it.
const BY: &str = "planner";
/// Seconds that an operation may take whose description cannot be read; that it cannot be run is
/// then told by the node, and shown.
const TIMEOUT_S: u32 = 600;

/// Queues them.
///
/// # Errors
/// The store's.
pub async fn queue(app: &Engine, input: &PlanInput, plan: &Plan) -> Result<(), Error> {
    let mut commands = Vec::with_capacity(plan.operations.len());
    for wish in &plan.operations {
        // it may run in another topology, on a component that one of this topology depends on
        let others = input.neighbours.iter().flat_map(|other| &other.nodes);
        let Some(node) = input.nodes.iter().chain(others).find(|node| node.id == wish.node) else { continue };
        let timeout_s = timeout(app, input, &node.component, &wish.command).await;
        let of = (&node.component, node.name.as_str());
        commands.push(record(input, wish, of, timeout_s, app.now_ms()));
    }
    if commands.is_empty() {
        return Ok(());
    }
    match app.store.queue_commands(&commands, None).await {
        // a node went meanwhile: the next plan asks another one
        Err(StoreError::NotFound { .. }) => app.wake.wake(&input.topology.id),
        other => {
            other?;
            app.metrics.commands_queued(commands.len());
            let mut queued = Vec::with_capacity(commands.len());
            for command in &commands {
                // as it stands: it may have been known
                queued.extend(app.store.command(&command.id).await?.filter(|known| !known.standing.is_final()));
            }
            app.commands_changed(&queued).await;
        }
    }
    Ok(())
}

fn record(
    input: &PlanInput,
    wish: &OperationWish,
    (component, node_name): (&ComponentId, &str),
    timeout_s: u32,
    now: i64,
) -> CommandRecord {
    CommandRecord {
        id: wish.id.clone(),
        batch: None,
        operation: Some((wish.key.clone(), wish.attempt)),
        tenant: input.topology.tenant.clone(),
        topology: input.topology.id.clone(),
        component: component.clone(),
        node: wish.node.clone(),
        node_name: node_name.to_owned(),
        command: wish.command.clone(),
        args: wish.args.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        files: Vec::new(),
        timeout_s,
        // only such may be operations: they are tried again until they succeed
        idempotent: true,
        by: BY.to_owned(),
        created_ms: now,
        deadline_ms: now + i64::from(COMMAND_DEADLINE_S) * 1000,
        standing: CommandStanding::Queued,
        held: false,
        cancelling: false,
        started_ms: None,
        ended_ms: None,
        end: None,
        assumed: false,
        output_bytes: 0,
    }
}

/// What the command itself says, in the scripts that the node's component has.
async fn timeout(app: &Engine, input: &PlanInput, component: &ComponentId, command: &str) -> u32 {
    let others = input.neighbours.iter().map(|other| &other.component);
    let component = input.components.iter().chain(others).find(|c| c.id == *component);
    let Some(component) = component else { return TIMEOUT_S };
    let (books, commit, command) = (app.books.clone(), component.target.scripts.clone(), command.to_owned());
    let meta = blocking(move || Ok(books.command(&commit, &command))).await.ok().flatten();
    meta.map_or(TIMEOUT_S, |meta| meta.timeout_s)
}
