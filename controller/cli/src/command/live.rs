//! A command's output as it comes, over a stream that may break and is taken up where it broke.

use crate::client::Client;
use crate::error::CliError;
use crate::output::clean;
use crate::routes;
use crate::sse::Events;
use serde::Deserialize;
use straas_schemas::command::CommandView;

/// Tries in a row to take the stream up again: a minute.
const RECONNECTS_MAX: u32 = 60;

/// A piece of output.
#[derive(Deserialize)]
struct Piece {
    text: String,
}

/// Follows a command to its end, writing its output to stdout if it is to be shown.
pub async fn follow(client: &Client, id: &str, shown: bool) -> Result<CommandView, CliError> {
    let (mut broken, mut after) = (0, 0);
    loop {
        if broken > 0 {
            // the controller was restarted, or the link was cut
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let mut events = match client.events(routes::COMMAND_EVENTS, id, after).await {
            Ok(response) => Events::new(response),
            Err(error) if error.may_pass() && broken > 0 && broken < RECONNECTS_MAX => {
                broken += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        while let Some(event) = events.next().await? {
            after = event.id.unwrap_or(after);
            match event.kind.as_str() {
                "output" => {
                    broken = 0;
                    if let (true, Ok(piece)) = (shown, serde_json::from_str::<Piece>(&event.data)) {
                        use std::io::Write as _;
                        anstream::print!("{}", clean(&piece.text));
                        std::io::stdout().flush()?;
                    }
                }
                "state" => {
                    let Ok(view) = serde_json::from_str::<CommandView>(&event.data) else { continue };
                    broken = 0;
                    if view.standing.is_final() {
                        return Ok(view);
                    }
                }
                _ => {}
            }
        }
        broken += 1;
        if broken >= RECONNECTS_MAX {
            return Err(CliError::Job(format!("the command's events broke off {broken} times; it may still go on")));
        }
    }
}
