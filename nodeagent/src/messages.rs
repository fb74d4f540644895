//! The messages of a script: lines on stdout that begin with `@straas `.
//!
//! Bytes come in as the pipe gives them; a line that is no message is never kept, so a flood of
//! output costs no memory. The first message that breaks the contract is remembered as the fault
//! of the stage; what came before it stands.
//!
//! Never here: what a fault or a result means for the stage (`stages/`).

use crate::redact::Secrets;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::command::COMMAND_RESULT_BYTES_MAX;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{DRIFT_RESOURCES_MAX, DriftFound, FACTS_BYTES_MAX, Facts};

/// What a message line begins with.
pub const PREFIX: &[u8] = b"@straas ";
/// Longest message line, its prefix included.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest progress text and hint that is kept: they travel in every heartbeat.
const TEXT_CHARS_MAX: usize = 2_000;
/// Most resources of one look for drift that are told apart; what comes after is only counted.
const DRIFT_APART_MAX: usize = 1_000;
/// Longest name of a resource that is kept.
const RESOURCE_CHARS_MAX: usize = 200;

/// Sections of a `site.pp`: class → parameter → value.
pub type Sections = BTreeMap<String, BTreeMap<String, Value>>;

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
    /// A guest command's structured answer.
    pub result: Map<String, Value>,
    /// What a look for drift found.
    pub drift: Option<Drifted>,
    /// Advice for an operator.
    pub hint: Option<String>,
    /// The first message that broke the contract.
    pub fault: Option<String>,
}

impl Said {
    /// The same without secrets; `sections` carry them to where they belong.
    #[must_use]
    pub fn hidden(&self, secrets: &Secrets) -> Self {
        let mut said = self.clone();
        for text in [&mut said.progress, &mut said.hint, &mut said.fault].into_iter().flatten() {
            *text = secrets.hide(text).into_owned();
        }
        said.facts.values_mut().chain(said.result.values_mut()).for_each(|value| secrets.hide_in(value));
        said
    }
}

/// Resources that are not as configured, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drifted {
    names: BTreeSet<String>,
    more: u32,
}

impl Drifted {
    fn extend(&mut self, names: Vec<String>) {
        for name in names {
            let name: String = name.chars().take(RESOURCE_CHARS_MAX).collect();
            if self.names.len() < DRIFT_APART_MAX || self.names.contains(&name) {
                self.names.insert(name);
            } else {
                self.more = self.more.saturating_add(1);
            }
        }
    }

    /// In the form that travels; its time is the caller's.
    #[must_use]
    pub fn found(&self) -> DriftFound {
        let apart = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        DriftFound {
            resources: self.names.iter().take(DRIFT_RESOURCES_MAX).cloned().collect(),
            total: apart.saturating_add(self.more),
            looked_ms: 0,
        }
    }
}

/// Who speaks: it decides what a `result` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaker {
    /// A stage: its result is what it found of the service.
    #[default]
    Stage,
    /// A guest command: its result is any object.
    Command,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    Progress(Progress),
    Facts(Facts),
    Sections(Sections),
    Result(Map<String, Value>),
    Drift(Drift),
    Hint(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drift {
    resources: Vec<String>,
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
    speaker: Speaker,
    said: Said,
}

impl Parser {
    /// Listens to this one.
    #[must_use]
    pub fn of(speaker: Speaker) -> Self {
        Self { speaker, ..Self::default() }
    }

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
            Message::Result(result) if self.speaker == Speaker::Command => {
                if serde_json::to_vec(&result).map_or(usize::MAX, |json| json.len()) > COMMAND_RESULT_BYTES_MAX {
                    self.fault(format!("its result is over {COMMAND_RESULT_BYTES_MAX} bytes"));
                } else {
                    self.said.result = result;
                }
            }
            Message::Result(result) => match serde_json::from_value::<Found>(Value::Object(result)) {
                Ok(Found { service: FoundService::Active }) => self.said.service = Some(ServiceStatus::Active),
                Ok(Found { service: FoundService::Inactive }) => self.said.service = Some(ServiceStatus::Inactive),
                Err(error) => self.fault(format!("the result breaks the script contract: {error}")),
            },
            Message::Drift(drift) => self.said.drift.get_or_insert_default().extend(drift.resources),
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
    fn drift_is_bounded_and_each_resource_counts_once() {
        let found = said(&["@straas {\"drift\":{\"resources\":[]}}\n"]).drift.map(|drift| drift.found());
        assert_eq!(found, Some(DriftFound::default()));
        let mut text = "@straas {\"drift\":{\"resources\":[\"b\",\"a\",\"b\"]}}\n".to_owned();
        text.push_str("@straas {\"drift\":{\"resources\":[\"a\",\"c\"]}}\n");
        let found = said(&[&text]).drift.unwrap_or_default().found();
        assert_eq!((found.resources, found.total), (vec!["a".into(), "b".into(), "c".into()], 3));
        for n in 0..2_000 {
            text.push_str(&format!("@straas {{\"drift\":{{\"resources\":[\"{n}{}\"]}}}}\n", "x".repeat(500)));
        }
        let found = said(&[&text]).drift.unwrap_or_default().found();
        assert_eq!((found.resources.len(), found.total), (DRIFT_RESOURCES_MAX, 2_003));
        assert!(found.resources.iter().all(|name| name.len() <= RESOURCE_CHARS_MAX));
    }

    #[test]
    fn a_result_is_what_its_speaker_means() {
        let mut parser = Parser::of(Speaker::Command);
        parser.feed(b"@straas {\"result\":{\"count\":1,\"names\":[\"a\"]}}\n");
        assert_eq!(parser.finish().result["count"], 1);
        let mut parser = Parser::of(Speaker::Command);
        parser.feed(format!("@straas {{\"result\":{{\"a\":\"{}\"}}}}\n", "x".repeat(17_000)).as_bytes());
        assert!(parser.finish().fault.unwrap_or_default().contains("result is over"));
        assert!(said(&["@straas {\"result\":{\"count\":1}}\n"]).fault.is_some());
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
