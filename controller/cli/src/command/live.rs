//! A command's output as it comes, over a stream that may break and is taken up where it broke.

use crate::client::Client;
use crate::error::CliError;
use crate::output::clean;
use crate::routes;
use crate::sse::{self, Heard};
use serde::Deserialize;
use straas_schemas::command::CommandView;

/// A piece of output.
#[derive(Deserialize)]
struct Piece {
    text: String,
}

/// Follows a command to its end, writing its output to stdout if it is to be shown.
pub async fn follow(client: &Client, id: &str, shown: bool) -> Result<CommandView, CliError> {
    sse::follow(client, routes::COMMAND_EVENTS, id, "the command", |event| match event.kind.as_str() {
        "output" => {
            if let (true, Ok(piece)) = (shown, serde_json::from_str::<Piece>(&event.data)) {
                use std::io::Write as _;
                anstream::print!("{}", clean(&piece.text));
                std::io::stdout().flush()?;
            }
            Ok(Heard::More)
        }
        "state" => Ok(match serde_json::from_str::<CommandView>(&event.data) {
            Ok(view) if view.standing.is_final() => Heard::End(view),
            Ok(_) => Heard::More,
            Err(_) => Heard::Nothing,
        }),
        _ => Ok(Heard::Nothing),
    })
    .await
}
