//! `straas component …`: change running components; make and try new kinds of them.

mod add;
mod check;
mod health;
mod life;
mod new;
mod running;
mod tools;

use crate::Global;
use crate::error::CliError;
use crate::mutation::{Held, Rollout};
use clap::{Args, Subcommand};

/// What to do with components.
#[derive(Subcommand)]
pub enum Verb {
    /// List the components of a topology.
    List {
        /// The topology: name or id.
        topology: String,
    },
    /// Show a component with its nodes and the change that is under way.
    Show(Which),
    /// Add nodes.
    Flexup {
        #[command(flatten)]
        which: Which,
        /// How many more.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Of which role; may be left out where there is one role only.
        #[arg(long)]
        role: Option<String>,
        #[command(flatten)]
        how: Held,
    },
    /// Take nodes out, the youngest first; their work is moved away before their hosts go.
    ///
    /// To take out a certain node: straas node remove NODE.
    Flexdown {
        #[command(flatten)]
        which: Which,
        /// How many fewer.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Of which role; may be left out where there is one role only.
        #[arg(long)]
        role: Option<String>,
        #[command(flatten)]
        how: Held,
    },
    /// Change several things at once: version, size, configuration.
    Patch {
        #[command(flatten)]
        which: Which,
        /// Another version of its type.
        #[arg(long = "component-version", value_name = "VERSION")]
        version: Option<String>,
        /// Another number of nodes.
        #[arg(long)]
        size: Option<u32>,
        /// Which nodes --size counts; may be left out where there is one role only.
        #[arg(long, requires = "size")]
        role: Option<String>,
        /// Another commit, tag or branch of its configuration.
        #[arg(long, value_name = "REF")]
        config: Option<String>,
        #[command(flatten)]
        rollout: Rollout,
        #[command(flatten)]
        how: Held,
    },
    /// Bring it to another version, node by node; the user's own settings are taken along.
    Upgrade {
        #[command(flatten)]
        which: Which,
        /// The version, of those its type offers.
        version: String,
        #[command(flatten)]
        rollout: Rollout,
        #[command(flatten)]
        how: Held,
    },
    /// Apply a configuration: what its topology's branch has now, or a tag or commit of it.
    Configure {
        #[command(flatten)]
        which: Which,
        /// A tag (TOPOLOGY&TAG), a commit or the branch itself.
        #[arg(value_name = "REF")]
        reference: Option<String>,
        #[command(flatten)]
        rollout: Rollout,
        #[command(flatten)]
        how: Held,
    },
    /// Go back to an earlier configuration, at once and without a node that goes first.
    Rollback {
        #[command(flatten)]
        which: Which,
        /// A tag (TOPOLOGY&TAG, or TAG alone) or a commit; the one before the present if absent.
        #[arg(value_name = "REF")]
        reference: Option<String>,
        #[command(flatten)]
        how: Held,
    },
    /// Remove a component on which nothing depends.
    Remove(Change),
    /// Start the services of all its nodes.
    Start(Change),
    /// Stop the services of all its nodes.
    Stop(Change),
    /// Restart its services, node by node as far as it can do without them.
    Restart(Change),
    /// Add a component to a topology that is there.
    Add(add::Args),
    /// What it depends on, and what depends on it.
    Dependencies(Which),
    /// Change what it depends on.
    ///
    /// The components named are all that it depends on from then on; its nodes are given their
    /// addresses, and what that changes is configured anew, node by node.
    Depend {
        #[command(flatten)]
        which: Which,
        /// A component of the same topology, or TOPOLOGY/COMPONENT of another; may be given more than once.
        #[arg(long = "on", value_name = "COMPONENT", required_unless_present = "nothing")]
        on: Vec<String>,
        /// On nothing any more.
        #[arg(long, conflicts_with = "on")]
        nothing: bool,
        #[command(flatten)]
        how: Held,
    },
    /// Which sizes of hosts a component type supports.
    Flavors {
        /// The type, e.g. kafka.
        #[arg(value_name = "TYPE")]
        kind: String,
    },
    /// Write what a health check found of its nodes.
    Health(health::Args),
    /// Write the files of a new kind of component, ready to be filled in.
    New(new::Args),
    /// Look for mistakes in the files of components, before a node meets them.
    Check(check::Args),
    /// Live the whole life of a component on hosts of this machine and say how it went.
    Test(life::Args),
}

/// A component.
#[derive(Args)]
pub struct Which {
    /// The topology: name or id.
    topology: String,
    /// The component: name or id.
    component: String,
}

/// A change that needs nothing more.
#[derive(Args)]
pub struct Change {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: Held,
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    match verb {
        Verb::New(args) => new::run(&args),
        Verb::Check(args) => check::run(&args, global),
        Verb::Test(args) => life::run(args, global).await,
        Verb::Add(args) => add::run(args, global).await,
        Verb::Flavors { kind } => health::flavors(&kind, global).await,
        Verb::Health(args) => health::run(args, global).await,
        other => running::run(other, global).await,
    }
}
