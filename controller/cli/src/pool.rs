//! `straas host …` and `straas join-token …`: the pool of hosts, for who looks after the platform.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::mutation::Seen;
use crate::output::{print, table, time, word};
use crate::people::{keep, seconds};
use crate::routes;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use straas_schemas::pool::{
    HostAnnounced, HostPatch, HostRequest, HostStanding, HostView, JoinTokenIssued, JoinTokenRequest, JoinTokenView,
};

/// What to do with hosts of the pool.
#[derive(Subcommand)]
pub enum Host {
    /// Announce a host; it joins with the token that is shown once, or kept in a file that only you read.
    ///
    /// On the host: install straas-agent, write `pool = true` and the controllers into /etc/straas/agent.toml, the
    /// controller's ca.pem into /etc/straas/ca.pem, the token into /etc/straas/join-token, and start the agent.
    Add {
        /// Its name, for people.
        name: String,
        /// The zone whose pool it joins.
        #[arg(long)]
        zone: String,
        /// What it shares with others and fails with, such as its rack.
        #[arg(long)]
        fault_domain: Option<String>,
        /// How long its token lives, such as 12h; a day if left out.
        #[arg(long, value_parser = seconds, value_name = "TIME")]
        expires_in: Option<u32>,
        /// Write the token to this file in the place of showing it.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List the hosts of the pool.
    List {
        /// Of this zone.
        #[arg(long)]
        zone: Option<String>,
        /// expected, free, allotted, serving, leaving or cleaning.
        #[arg(long, value_parser = standing)]
        state: Option<HostStanding>,
    },
    /// Show a host of the pool.
    Show {
        /// Its id.
        id: String,
    },
    /// Keep further nodes from a host; the one it has stays.
    Cordon(Change),
    /// Let nodes come to a host again.
    Uncordon(Change),
    /// Tell a host that it was cleaned by hand of what it could not remove.
    Cleaned(Change),
    /// Take a host out of the pool; its certificate is good for nothing from then on.
    Remove {
        /// Which.
        #[command(flatten)]
        change: Change,
        /// Also if it may still run a node: you know that nothing of it runs there. The node gets another host.
        #[arg(long)]
        force: bool,
    },
}

/// A host that is changed.
#[derive(Args)]
pub struct Change {
    /// Its id.
    id: String,
    #[command(flatten)]
    seen: Seen,
}

/// What to do with join tokens.
#[derive(Subcommand)]
pub enum Token {
    /// Make a token with which hosts join the pool. It is shown once, or kept in a file that only you read.
    Create {
        /// The zone whose pool they join.
        #[arg(long, required_unless_present = "host")]
        zone: Option<String>,
        /// What they share and fail with, such as their rack.
        #[arg(long, conflicts_with = "host")]
        fault_domain: Option<String>,
        /// How many hosts may join with it; 1 if left out.
        #[arg(long, conflicts_with = "host")]
        hosts: Option<u32>,
        /// A host of the pool (id) that joins anew: it was installed again, or its certificate has ended.
        #[arg(long, conflicts_with = "zone")]
        host: Option<String>,
        /// How long it lives, such as 12h; a day if left out.
        #[arg(long, value_parser = seconds, value_name = "TIME")]
        expires_in: Option<u32>,
        /// What it is for.
        #[arg(long)]
        label: Option<String>,
        /// Write it to this file in the place of showing it.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List the join tokens that have not expired.
    List,
    /// Show what is known of a join token.
    Show {
        /// Its id.
        id: String,
    },
    /// End a join token: nobody joins with it any more.
    Revoke {
        /// Its id.
        id: String,
    },
}

fn standing(text: &str) -> Result<HostStanding, String> {
    let found = HostStanding::ALL.into_iter().find(|standing| standing.name() == text);
    found.ok_or_else(|| format!("one of {}", HostStanding::ALL.map(HostStanding::name).join(", ")))
}

/// Shows a token, or keeps it in a file.
fn given<T: serde::Serialize>(global: &Global, all: &T, token: &str, file: Option<&Path>) -> Result<(), CliError> {
    match file {
        Some(path) => {
            keep(path, token)?;
            print(global.format(), &path.display().to_string(), |path| format!("the token is in {path}"))
        }
        None => print(global.format(), all, |_| token.to_owned()),
    }
}

/// Carries out a verb.
pub async fn host(verb: Host, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Host::Add { name, zone, fault_domain, expires_in, file } => {
            let body = HostRequest { name, zone, fault_domain, expires_in_s: expires_in };
            let made: HostAnnounced = client.call(Ask::new(routes::HOST_ADD, &[]).body(&body)).await?;
            given(global, &made, &made.token, file.as_deref())
        }
        Host::List { zone, state } => {
            let state = state.map(|state| state.name().to_owned());
            let asked = [("zone", zone), ("state", state)];
            let query: Vec<_> = asked.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let all: Vec<HostView> = client.all(routes::HOSTS, &[], &query).await?;
            print(global.format(), &all, |all| list(all))
        }
        Host::Show { id } => {
            let host: HostView = client.get(routes::HOST, &[&id]).await?;
            print(global.format(), &host, |host| {
                let reason = host.reason.as_ref().map(|reason| format!("\n{reason}")).unwrap_or_default();
                format!("{}{reason}", list(std::slice::from_ref(host)))
            })
        }
        Host::Cordon(host) => patch(&client, global, &host, HostPatch { cordoned: Some(true), cleaned: None }).await,
        Host::Uncordon(host) => patch(&client, global, &host, HostPatch { cordoned: Some(false), cleaned: None }).await,
        Host::Cleaned(host) => patch(&client, global, &host, HostPatch { cordoned: None, cleaned: Some(true) }).await,
        Host::Remove { change: Change { id, seen }, force } => {
            let ask = Ask::new(routes::HOST_REMOVE, &[&id]).with("force", force.to_string());
            let ask = ask.if_seen(seen.if_match.as_deref());
            client.call::<()>(ask).await?;
            print(global.format(), &id, |id| format!("host {id} is out of the pool"))
        }
    }
}

async fn patch(client: &Client, global: &Global, host: &Change, patch: HostPatch) -> Result<(), CliError> {
    let ask = Ask::new(routes::HOST_CHANGE, &[&host.id]).body(&patch).if_seen(host.seen.if_match.as_deref());
    let host: HostView = client.call(ask).await?;
    print(global.format(), &host, |host| list(std::slice::from_ref(host)))
}

fn list(hosts: &[HostView]) -> String {
    let row = |host: &HostView| {
        let or_none = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
        let standing = word(&host.standing);
        let size = match host.facts.memory_mib {
            0 => "-".to_owned(),
            memory => format!("{memory} MiB, {} vcpus", host.facts.vcpus),
        };
        vec![
            host.id.0.clone(),
            host.name.clone(),
            host.zone.clone(),
            or_none(host.fault_domain.as_ref()),
            if host.cordoned { format!("{standing}, cordoned") } else { standing },
            or_none(host.node.as_ref().map(|node| &node.name)),
            if host.facts.address.is_empty() { "-".to_owned() } else { host.facts.address.clone() },
            size,
            host.seen_ms.map_or_else(|| "never".to_owned(), time),
        ]
    };
    let names = ["id", "name", "zone", "fault domain", "state", "node", "address", "size", "heard of"];
    table(&names, hosts.iter().map(row))
}

/// Carries out a verb.
pub async fn token(verb: Token, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Token::Create { zone, fault_domain, hosts, host, expires_in, label, file } => {
            let host = host.map(Into::into);
            let body = JoinTokenRequest { zone, fault_domain, hosts, host, expires_in_s: expires_in, label };
            let issued: JoinTokenIssued = client.call(Ask::new(routes::JOIN_TOKEN_CREATE, &[]).body(&body)).await?;
            given(global, &issued, &issued.token, file.as_deref())
        }
        Token::List => {
            let all: Vec<JoinTokenView> = client.all(routes::JOIN_TOKENS, &[], &[]).await?;
            print(global.format(), &all, |all| tokens(all))
        }
        Token::Show { id } => {
            let token: JoinTokenView = client.get(routes::JOIN_TOKEN, &[&id]).await?;
            print(global.format(), &token, |token| tokens(std::slice::from_ref(token)))
        }
        Token::Revoke { id } => {
            client.call::<()>(Ask::new(routes::JOIN_TOKEN_REVOKE, &[&id])).await?;
            print(global.format(), &id, |id| format!("join token {id} has ended; who has joined stays"))
        }
    }
}

fn tokens(tokens: &[JoinTokenView]) -> String {
    let row = |token: &JoinTokenView| {
        vec![
            token.id.clone(),
            token.label.clone(),
            token.zone.clone(),
            token.fault_domain.clone().unwrap_or_else(|| "-".to_owned()),
            token.host.as_ref().map_or_else(|| "any".to_owned(), |host| host.0.clone()),
            format!("{}/{}", token.joined, token.hosts),
            token.by.clone(),
            time(token.expires_ms),
        ]
    };
    table(&["id", "for", "zone", "fault domain", "host", "joined", "made by", "expires"], tokens.iter().map(row))
}
