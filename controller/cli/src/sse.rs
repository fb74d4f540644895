//! Reads server-sent events (WHATWG HTML, 9.2) from a response.

use crate::client::Client;
use crate::error::CliError;
use crate::routes::Route;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Most bytes of one event: a job of 1,000 nodes with output fits.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// Tries in a row to take a stream up again where it broke: a minute.
const RECONNECTS_MAX: u32 = 60;

/// What an event was to who follows.
pub enum Heard<T> {
    /// Nothing of interest.
    Nothing,
    /// A sign that it goes on.
    More,
    /// What was waited for.
    End(T),
}

/// Follows a stream to what is waited for, over restarts of the controller and cut links. `whose`
/// names it for people, e.g. `the job`.
pub async fn follow<T>(
    client: &Client,
    route: Route,
    id: &str,
    whose: &str,
    mut hear: impl FnMut(&Event) -> Result<Heard<T>, CliError>,
) -> Result<T, CliError> {
    let (mut broken, mut after) = (0, 0);
    loop {
        if broken > 0 {
            // the controller was restarted, or the link was cut
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let mut events = match client.events(route, id, after).await {
            Ok(response) => Events::new(response),
            Err(error) if error.may_pass() && broken > 0 && broken < RECONNECTS_MAX => {
                broken += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        while let Some(event) = events.next().await? {
            after = event.id.unwrap_or(after);
            match hear(&event)? {
                Heard::Nothing => {}
                Heard::More => broken = 0,
                Heard::End(end) => return Ok(end),
            }
        }
        broken += 1;
        if broken >= RECONNECTS_MAX {
            return Err(CliError::job(format!("{whose}'s events broke off {broken} times; it may still go on")));
        }
    }
}

/// A stream of events.
pub struct Events {
    body: Incoming,
    buffer: Vec<u8>,
    /// No event ends before here.
    searched: usize,
}

/// One event.
pub struct Event {
    /// Its number, if it has one: a stream can go on after it.
    pub id: Option<i64>,
    /// Its kind.
    pub kind: String,
    /// Its data.
    pub data: String,
}

impl Events {
    /// The events of a response.
    pub fn new(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), buffer: Vec::new(), searched: 0 }
    }

    /// The next event; `None` when the stream ends.
    pub async fn next(&mut self) -> Result<Option<Event>, CliError> {
        loop {
            let found =
                self.buffer.get(self.searched..).and_then(|rest| rest.windows(2).position(|pair| pair == b"\n\n"));
            if let Some(end) = found {
                let raw: Vec<u8> = self.buffer.drain(..self.searched + end + 2).collect();
                self.searched = 0;
                if let Some(event) = parse(&String::from_utf8_lossy(&raw)) {
                    return Ok(Some(event));
                }
                continue;
            }
            self.searched = self.buffer.len().saturating_sub(1);
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(CliError::Local("the controller sent an event that is too large".into()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                // the controller went away: the caller decides whether to ask again
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

fn parse(raw: &str) -> Option<Event> {
    let mut event = Event { id: None, kind: "message".into(), data: String::new() };
    for line in raw.lines() {
        if let Some(kind) = line.strip_prefix("event:") {
            event.kind = kind.trim().to_owned();
        } else if let Some(id) = line.strip_prefix("id:") {
            event.id = id.trim().parse().ok();
        } else if let Some(data) = line.strip_prefix("data:") {
            if !event.data.is_empty() {
                event.data.push('\n');
            }
            event.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
    }
    (!event.data.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_skipped_and_data_lines_joined() {
        assert!(parse(": keep-alive\n\n").is_none());
        let event = parse("id: 3\nevent: job\ndata: a\ndata: b\n\n").expect("an event");
        assert_eq!((event.id, event.kind.as_str(), event.data.as_str()), (Some(3), "job", "a\nb"));
    }
}
