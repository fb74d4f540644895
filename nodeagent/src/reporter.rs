//! Sends the outbox until it is acknowledged.
//!
//! Only what is durable is sent: a report that a crash could take back must not be known to
//! anybody. A lost acknowledgement is a report sent twice, which the controller expects.

use crate::agent::Agent;
use crate::backoff::Backoff;
use straas_converge::Event;
use straas_schemas::report::{REPORTS_MAX, Report, ReportAnswer, ReportRequest};

/// Most bytes of output and facts in one request, so that a slow link still gets one through.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Sends for ever.
pub async fn run(agent: &Agent) {
    let mut backoff = Backoff::default();
    loop {
        let reports =
            if agent.is_stalled() { Vec::new() } else { agent.look(|c, _| batch(c.ledger().outbox.values())) };
        let Some(last) = reports.last().map(|report| report.seq) else {
            agent.send.notified().await;
            continue;
        };
        let request = ReportRequest { incarnation: agent.identity.borrow().incarnation, reports };
        match agent.client.post::<ReportAnswer>(&agent.path("reports"), &request, crate::client::REQUEST_TIME).await {
            Ok(answer) if answer.acknowledged >= request.reports[0].seq => {
                backoff.reset();
                // never more than was sent, whatever the answer says
                agent.handle(Event::Acknowledged { seq: answer.acknowledged.min(last) });
                continue;
            }
            Ok(answer) => tracing::warn!(acknowledged = answer.acknowledged, last, "reports were not acknowledged"),
            Err(error) => tracing::warn!(%error, waiting = request.reports.len(), "reports could not be sent"),
        }
        let wait = backoff.failed();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // the poll got through, so the link is back
            () = agent.send.notified(), if wait > std::time::Duration::from_secs(1) => {}
        }
    }
}

fn batch<'a>(outbox: impl Iterator<Item = &'a Report>) -> Vec<Report> {
    let mut bytes = 0;
    outbox
        .take(REPORTS_MAX)
        .take_while(|report| {
            let first = bytes == 0;
            bytes += serde_json::to_vec(report).map_or(0, |json| json.len());
            first || bytes <= BATCH_BYTES_MAX
        })
        .cloned()
        .collect()
}
