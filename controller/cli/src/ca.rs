//! `straas ca …`: the certificate authority of the fleet, and its exchange for another one.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::output::{print, table, time, word};
use crate::routes;
use clap::Subcommand;
use straas_schemas::authority::{AdvanceRequest, AuthorityInfo, AuthorityView, RotationPhase};

/// What to do with the certificate authority.
#[derive(Subcommand)]
pub enum Verb {
    /// Show the authority, how far an exchange is, and which agents are waited for.
    Show,
    /// Print the certificates that agents are to trust: what a new machine gets as /etc/straas/ca.pem.
    Certificates,
    /// Exchange the authority for a new one.
    ///
    /// Each step comes by itself: first every agent learns to trust both, then the new one issues and every agent renews
    /// its certificate, then the old one is retired for good. No request fails meanwhile, no stage runs.
    Rotate {
        /// Only show what would be done; nothing is changed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Go on without the agents that are waited for; `show` says what becomes of them.
    Advance {
        /// The phase that is to end, as `show` says it: one that has ended meanwhile is not taken for the next.
        #[arg(value_parser = phase)]
        phase: RotationPhase,
        /// Only show what would be done; nothing is changed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the exchange back, as long as the old authority is not retired.
    TakeBack {
        /// Only show what would be done; nothing is changed.
        #[arg(long)]
        dry_run: bool,
    },
}

fn phase(text: &str) -> Result<RotationPhase, String> {
    let known = || RotationPhase::ALL.map(RotationPhase::name).join(", ");
    RotationPhase::ALL.into_iter().find(|phase| phase.name() == text).ok_or_else(|| format!("none of {}", known()))
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let asked = |dry_run: bool, ask: Ask<'static>| if dry_run { ask.with("dry_run", "true") } else { ask };
    let view: AuthorityView = match verb {
        Verb::Show => client.get(routes::AUTHORITY, &[]).await?,
        Verb::Certificates => {
            let view: AuthorityView = client.get(routes::AUTHORITY, &[]).await?;
            return print(global.format(), &view.certificates_pem, Clone::clone);
        }
        Verb::Rotate { dry_run } => client.call(asked(dry_run, Ask::new(routes::AUTHORITY_ROTATE, &[]))).await?,
        Verb::Advance { phase, dry_run } => {
            let ask = Ask::new(routes::AUTHORITY_ADVANCE, &[]).body(&AdvanceRequest { phase });
            client.call(asked(dry_run, ask)).await?
        }
        Verb::TakeBack { dry_run } => client.call(asked(dry_run, Ask::new(routes::AUTHORITY_BACK, &[]))).await?,
    };
    print(global.format(), &view, shown)
}

fn shown(view: &AuthorityView) -> String {
    let info = |info: &AuthorityInfo| {
        format!("{} ({}, until {})", info.name, info.fingerprint.short(), time(info.not_after_ms))
    };
    let mut lines = vec![format!("phase   {}", view.phase.name()), format!("issuer  {}", info(&view.issuer))];
    if let Some(other) = &view.other {
        lines.push(format!("other   {}", info(other)));
    }
    if let (Some(by), Some(since_ms)) = (&view.by, view.since_ms) {
        lines.push(format!("since   {} by {by}", time(since_ms)));
    }
    lines.push(format!("agents  {} of {} are ready", view.ready, view.agents));
    lines.push(format!("next    {}", view.next));
    if !view.missing.is_empty() {
        let rows = view.missing.iter().map(|one| {
            let heard = one.heard_ms.map_or_else(|| "never".to_owned(), time);
            vec![word(&one.kind), one.name.clone(), one.id.clone(), word(&one.reason), heard]
        });
        lines.push(table(&["missing", "name", "id", "why", "heard of"], rows));
    }
    lines.join("\n")
}
