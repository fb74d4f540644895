//! The messages of a script: lines on stdout that begin with `@straas `.
//!
//! Bytes come in as the pipe gives them; a line that is no message is never kept, so a flood of
//! output costs no memory. The first message that breaks the contract is remembered as the fault
//! of the stage; what came before it stands.
//!
//! Never here: what a fault or a result means for the stage (`stages/`).

use serde::Deserialize;
use std::collections::BTreeMap;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{FACTS_BYTES_MAX, Facts};

/// What a message line begins with.
pub const PREFIX: &[u8] = b"@straas ";
/// Longest message line, its prefix included.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest progress text and hint that is kept: they travel in every heartbeat.
const TEXT_CHARS_MAX: usize = 2_000;

/// Sections of a `site.pp`: class → parameter → value.
pub type Sections = BTreeMap<String, BTreeMap<String, serde_json::Value>>;

/// What a script said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// Newest progress text.
    pub progress: Option<String>,
    /// Newest progress percentage.
    pub percent: Option<u8>,
    /// All facts; a later message replaces single facts.
    pub facts: Facts,
    /// The rendered sections.
    pub sections: Option<Sections>,
    /// What it found out about the service.
    pub service: Option<ServiceStatus>,
    /// Advice for an operator.
    pub hint: Option<String>,
    /// The first message that broke the contract.
    pub fault: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    Progress(Progress),
    Facts(Facts),
    Sections(Sections),
    Result(Found),
    Hint(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    text: String,
    percent: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    service: FoundService,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum FoundService {
    Active,
    Inactive,
}

/// Finds messages in a stream of bytes.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The present line is no message; skip to its end.
    skip: bool,
    said: Said,
}

impl Parser {
    /// Takes the next bytes; true if the progress changed.
    pub fn feed(&mut self, mut bytes: &[u8]) -> bool {
        let mut moved = false;
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (part, rest) = end.map_or((bytes, &bytes[bytes.len()..]), |end| (&bytes[..end], &bytes[end + 1..]));
            self.extend(part);
            if end.is_some() {
                moved |= self.end_of_line();
            }
            bytes = rest;
        }
        moved
    }

    /// What was said; a last line without an end counts.
    pub fn finish(mut self) -> Said {
        self.end_of_line();
        self.said
    }

    /// What was said so far.
    #[must_use]
    pub const fn said(&self) -> &Said {
        &self.said
    }

    fn extend(&mut self, part: &[u8]) {
        if self.skip {
            return;
        }
        let room = LINE_BYTES_MAX - self.line.len();
        let checked = self.line.len().min(PREFIX.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        let upto = self.line.len().min(PREFIX.len());
        if self.line[checked..upto] != PREFIX[checked..upto] {
            self.line.clear();
            self.skip = true;
        } else if part.len() > room {
            self.fault(format!("a message line is over {LINE_BYTES_MAX} bytes"));
            self.line.clear();
            self.skip = true;
        }
    }

    fn end_of_line(&mut self) -> bool {
        self.skip = false;
        let line = std::mem::take(&mut self.line);
        let Some(json) = line.strip_prefix(PREFIX) else { return false };
        match serde_json::from_slice::<Message>(json) {
            Ok(message) => self.take(message),
            Err(error) => {
                let start: String = String::from_utf8_lossy(json).chars().take(80).collect();
                self.fault(format!("the message {start:?} breaks the script contract: {error}"));
                false
            }
        }
    }

    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Progress(progress) => {
                if progress.percent.is_some_and(|percent| percent > 100) {
                    self.fault("progress: percent is over 100".into());
                }
                self.said.progress = Some(cut(&progress.text));
                self.said.percent = progress.percent.map(|percent| percent.min(100));
                return true;
            }
            Message::Facts(facts) => {
                let mut all = self.said.facts.clone();
                all.extend(facts);
                if serde_json::to_vec(&all).map_or(usize::MAX, |json| json.len()) > FACTS_BYTES_MAX {
                    self.fault(format!("facts are over {FACTS_BYTES_MAX} bytes in all"));
                } else {
                    self.said.facts = all;
                }
            }
            Message::Sections(sections) => self.said.sections = Some(sections),
            Message::Result(found) => {
                self.said.service = Some(match found.service {
                    FoundService::Active => ServiceStatus::Active,
                    FoundService::Inactive => ServiceStatus::Inactive,
                });
            }
            Message::Hint(hint) => self.said.hint = Some(cut(&hint)),
        }
        false
    }

    fn fault(&mut self, fault: String) {
        self.said.fault.get_or_insert(fault);
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pieces: &[&str]) -> Said {
        let mut parser = Parser::default();
        for piece in pieces {
            parser.feed(piece.as_bytes());
        }
        parser.finish()
    }

    #[test]
    fn messages_are_found_wherever_the_pipe_cuts_them() {
        let text = "noise\n@straas {\"progress\":{\"text\":\"half\",\"percent\":50}}\n @straas no\n@stra\n\
                    @straas {\"facts\":{\"mode\":\"leader\",\"n\":3}}\n@straas {\"result\":{\"service\":\"active\"}}\n\
                    @straas {\"hint\":\"do\"}";
        let whole = said(&[text]);
        assert_eq!(whole.progress.as_deref(), Some("half"));
        assert_eq!(whole.facts["n"], 3);
        assert_eq!((whole.service, whole.hint.as_deref()), (Some(ServiceStatus::Active), Some("do")));
        assert_eq!(whole.fault, None);
        for at in 1..text.len() {
            assert_eq!(said(&[&text[..at], &text[at..]]), whole, "cut at {at}");
        }
    }

    #[test]
    fn what_breaks_the_contract_is_named() {
        let check = |text: &str, part: &str| {
            let fault = said(&[text]).fault.unwrap_or_default();
            assert!(fault.contains(part), "{text:.60}: {fault:?}");
        };
        check("@straas {nonsense\n", "{nonsense");
        check("@straas {\"progres\":1}\n", "progres");
        check("@straas {\"hint\":\"a\",\"progress\":{\"text\":\"x\"}}\n", "breaks");
        check("@straas {\"result\":{\"service\":\"maybe\"}}\n", "maybe");
        check("@straas {\"progress\":{\"text\":\"x\",\"percent\":101}}\n", "percent");
        check(&format!("@straas {{\"hint\":\"{}\"}}\n", "x".repeat(LINE_BYTES_MAX)), "65536");
        check(&format!("@straas {{\"facts\":{{\"a\":\"{}\"}}}}\n", "x".repeat(FACTS_BYTES_MAX)), "facts");
    }

    #[test]
    fn a_flood_without_line_ends_is_not_kept() {
        let mut parser = Parser::default();
        for _ in 0..1_000 {
            parser.feed(&[b'x'; 16 * 1024]);
        }
        assert!(parser.line.capacity() < LINE_BYTES_MAX * 2);
        parser.feed(b"\n@straas {\"hint\":\"still\"}\n");
        assert_eq!(parser.finish().hint.as_deref(), Some("still"));
    }
}
