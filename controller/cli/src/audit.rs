//! `straas audit`: who changed what, when, from where.

use crate::Global;
use crate::client::Client;
use crate::error::CliError;
use crate::find::{self, given};
use crate::output::{print, table, time};
use crate::routes;
use clap::Args;
use jiff::Timestamp;
use straas_schemas::audit::AuditView;
use straas_schemas::view::Page;

/// Who changed what, when, from where: newest first.
#[derive(Args)]
pub struct Audit {
    /// Only about this topology: its name, or the id of one that is gone.
    #[arg(long)]
    topology: Option<String>,
    /// Only of this caller.
    #[arg(long)]
    caller: Option<String>,
    /// Only with this method: POST, PUT, PATCH or DELETE.
    #[arg(long)]
    method: Option<String>,
    /// Only what was answered with this status, e.g. 403.
    #[arg(long)]
    status: Option<u16>,
    /// From this time on, like 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Of all tenants.
    #[arg(long)]
    all_tenants: bool,
    /// How many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
}

/// Carries it out.
pub async fn run(audit: Audit, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let mut query = vec![("limit", audit.limit.to_string()), ("all_tenants", audit.all_tenants.to_string())];
    let ms = |at: Timestamp| at.as_millisecond().to_string();
    query.extend(given([
        ("caller", audit.caller),
        ("method", audit.method),
        ("status", audit.status.map(|status| status.to_string())),
        ("since_ms", audit.since.map(ms)),
        ("until_ms", audit.until.map(ms)),
    ]));
    if let Some(wanted) = audit.topology {
        // one that is gone has its id only
        let id = match find::topology(&client, &wanted).await {
            Ok(found) => found.id.0,
            Err(CliError::NotFound { .. }) => wanted,
            Err(other) => return Err(other),
        };
        query.push(("topology", id));
    }
    let page: Page<AuditView> = client.page(routes::AUDIT, &[], &query, None).await?;
    print(global.format(), &page.items, |items| {
        table(&["when", "who", "from", "what was asked", "answer", "changed"], items.iter().map(row))
    })
}

fn row(line: &AuditView) -> Vec<String> {
    let status = line.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
    let changed: Vec<_> = line.changes.iter().map(|change| change.what.as_str()).collect();
    let asked = format!("{} {}", line.method, line.path.trim_start_matches("/straas/v1.0"));
    let who = format!("{} ({})", line.caller, line.tenant);
    vec![time(line.at_ms), who, line.source.clone(), asked, status, changed.join(", ")]
}
