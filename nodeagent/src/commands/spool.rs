//! What a guest command writes: its plain output into a file, its messages into a result.
//!
//! Lines that are messages are no part of the output: they are for programs. The file takes the
//! first MiB; the rest is counted.
//!
//! Never here: the way of the output to the controller (`live.rs`), which follows the file.

use super::live::Live;
use crate::executor::Ears;
use crate::messages::{PREFIX, Parser, Said, Speaker};
use crate::redact::{Secrets, Stream};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use straas_schemas::CommandId;
use straas_schemas::command::COMMAND_OUTPUT_BYTES_MAX;

/// Listens to a guest command.
pub struct Listener<'a> {
    live: &'a Live,
    id: &'a CommandId,
    file: Option<File>,
    kept: usize,
    bytes: u64,
    parser: Parser,
    plain: Plain,
    hiding: [Stream; 2],
}

impl<'a> Listener<'a> {
    /// Writes to `path`, after what is there from a run that a crash ended.
    pub fn new(live: &'a Live, id: &'a CommandId, path: &Path, attempt: u32, secrets: &Secrets) -> Self {
        let open = File::options().append(true).create(true).open(path);
        let file = open
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "output of a command cannot be kept"))
            .ok();
        let length = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
        let kept = usize::try_from(length).unwrap_or(COMMAND_OUTPUT_BYTES_MAX);
        let parser = Parser::of(Speaker::Command);
        let hiding = [secrets.stream(), secrets.stream()];
        let mut this = Self { live, id, file, kept, bytes: length, parser, plain: Plain::default(), hiding };
        live.grew(id, length);
        if attempt > 1 {
            this.write(
                format!("\n--- run {attempt}: the agent ended in the middle of the one before ---\n").as_bytes(),
            );
        }
        this
    }

    /// What came of it: what was said, and how many bytes were written in all.
    pub fn finish<T>(mut self, judge: impl FnOnce(Said, u64) -> T) -> T {
        let rest = self.plain.finish();
        let mut rest = self.hiding[0].feed(&rest).into_owned();
        self.hiding.iter_mut().for_each(|stream| rest.extend(stream.finish()));
        self.write(&rest);
        judge(self.parser.finish(), self.bytes)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = COMMAND_OUTPUT_BYTES_MAX.saturating_sub(self.kept).min(bytes.len());
        let Some(file) = self.file.as_mut().filter(|_| room > 0) else { return };
        match file.write_all(&bytes[..room]) {
            Ok(()) => {
                self.kept += room;
                self.live.grew(self.id, self.kept as u64);
            }
            Err(error) => {
                tracing::warn!(%error, id = self.id.as_str(), "output of a command cannot be kept");
                self.file = None;
            }
        }
    }
}

impl Ears for Listener<'_> {
    fn out(&mut self, bytes: &[u8]) {
        self.parser.feed(bytes);
        let plain = self.plain.feed(bytes);
        let plain = self.hiding[0].feed(&plain).into_owned();
        self.write(&plain);
    }

    fn err(&mut self, bytes: &[u8]) {
        let shown = self.hiding[1].feed(bytes).into_owned();
        self.write(&shown);
    }
}

/// Leaves the messages out of a stream of bytes, wherever the pipe cuts it.
#[derive(Debug, Default)]
struct Plain {
    /// What was seen of the present line.
    line: Line,
}

#[derive(Debug, Default, PartialEq)]
enum Line {
    /// So many bytes, all of which a message could begin with; not given out yet.
    #[default]
    Start,
    Begun(usize),
    Message,
    Text,
}

impl Plain {
    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            let held = match self.line {
                Line::Start => 0,
                Line::Begun(held) => held,
                Line::Message | Line::Text => {
                    if self.line == Line::Text {
                        out.push(*byte);
                    }
                    if *byte == b'\n' {
                        self.line = Line::Start;
                    }
                    continue;
                }
            };
            self.line = if PREFIX.get(held) == Some(byte) {
                if held + 1 == PREFIX.len() { Line::Message } else { Line::Begun(held + 1) }
            } else {
                out.extend_from_slice(&PREFIX[..held]);
                out.push(*byte);
                if *byte == b'\n' { Line::Start } else { Line::Text }
            };
        }
        out
    }

    /// What was held back of a last line without an end.
    fn finish(&mut self) -> Vec<u8> {
        match std::mem::take(&mut self.line) {
            Line::Begun(held) => PREFIX[..held].to_vec(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_left_out_wherever_the_pipe_cuts_them() {
        let text = "one\n@straas {\"result\":{}}\n@stra\n\n @straas x\ntwo @straas y\n@straas {\"hint\":\"h\"}\n@str";
        let expect = "one\n@stra\n\n @straas x\ntwo @straas y\n@str";
        for at in 0..=text.len() {
            let mut plain = Plain::default();
            let mut out = plain.feed(&text.as_bytes()[..at]);
            out.extend(plain.feed(&text.as_bytes()[at..]));
            out.extend(plain.finish());
            assert_eq!(String::from_utf8_lossy(&out), expect, "cut at {at}");
        }
    }
}
