//! Whether a file has the form that its place asks for: every fault at once, each with its line.
//!
//! The forms are the types themselves, as JSON Schemas, so nothing can be accepted here that cannot
//! be read later. What a form does not say (keys that exist, values within limits) is checked where
//! the whole repository is at hand.

use crate::error::FileFault;
use jsonschema::Validator;
use serde_json::Value;
use std::sync::LazyLock;
use straas_schemas::command::CommandMeta;
use straas_schemas::config::ConfigFile;
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::strict;

/// Most faults told of one file: nobody mends more in one go.
const FAULTS_MAX: usize = 100;
/// A schema's message quotes the whole value; a long one says nothing to a person.
const MESSAGE_MAX: usize = 200;

static CONFIG: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(ConfigFile)));
static METADATA: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(ComponentMeta)));
static COMMAND: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(CommandMeta)));

fn validator(schema: &schemars::Schema) -> Option<Validator> {
    jsonschema::validator_for(schema.as_value()).ok()
}

/// What is wrong with the form of a file, by its path in the config repo or script repo. A file
/// whose place asks for no form has no faults.
#[must_use]
pub fn shape_faults(path: &str, content: &[u8]) -> Vec<FileFault> {
    let schema = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["metadata", name] if name.ends_with(".json") => &METADATA,
        ["app", .., name] | ["service", .., name] if name.ends_with(".json") => &CONFIG,
        ["guestcmds", group, name] if name.ends_with(".json") && *group != "schema" && *group != "lib" => &COMMAND,
        _ => return Vec::new(),
    };
    let fault = |line: Option<usize>, pointer: &str, message: String| FileFault {
        file: path.to_owned(),
        line,
        pointer: pointer.to_owned(),
        message,
    };
    let Ok(text) = std::str::from_utf8(content) else { return vec![fault(None, "", "is not text in UTF-8".into())] };
    let (value, twice) = match strict::parse(content) {
        Ok(read) => read,
        Err(error) => {
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or(&why);
            return vec![fault(Some(error.line()), "", format!("is not JSON: {why}"))];
        }
    };
    let Some(schema) = schema.as_ref() else { return Vec::new() };
    let mut found: Vec<FileFault> = schema
        .iter_errors(&value)
        .take(FAULTS_MAX)
        .map(|error| {
            let pointer = error.instance_path().as_str();
            fault(line_of(text, pointer), pointer, short(&error.to_string()))
        })
        .collect();
    // what is read later refuses such a file as a whole
    found.extend(
        twice.into_iter().take(FAULTS_MAX).map(|it| fault(line_of(text, &it.pointer), &it.pointer, it.message)),
    );
    if found.is_empty() && path.starts_with("guestcmds/") {
        found.extend(argument_faults(&value).map(|why| fault(line_of(text, "/arguments"), "/arguments", why)));
    }
    found
}

/// What is wrong with the schema of a guest command's arguments, as a schema.
fn argument_faults(meta: &Value) -> Option<String> {
    let arguments = &meta["arguments"];
    if let Err(error) = jsonschema::validator_for(arguments) {
        return Some(format!("is not a JSON Schema: {}", short(&error.to_string())));
    }
    let object = arguments["type"] == "object";
    (!object).then(|| "must be the schema of an object: \"type\": \"object\"".to_owned())
}

fn short(message: &str) -> String {
    if message.chars().count() <= MESSAGE_MAX {
        return message.to_owned();
    }
    let tail: Vec<char> = message.chars().rev().take(MESSAGE_MAX / 2).collect();
    format!("… {}", tail.into_iter().rev().collect::<String>())
}

/// The line, counted from 1, on which the value at a JSON Pointer begins.
#[must_use]
pub fn line_of(text: &str, pointer: &str) -> Option<usize> {
    let mut wanted: Vec<String> =
        pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    wanted.reverse();
    let mut scan = Scan { bytes: text.as_bytes(), at: 0 };
    let at = scan.find(&mut wanted)?;
    Some(text.get(..at)?.matches('\n').count() + 1)
}

/// Reads JSON that is known to be well formed.
struct Scan<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    /// Where the value begins that the steps (last one first) lead to from here.
    fn find(&mut self, steps: &mut Vec<String>) -> Option<usize> {
        let begin = self.space()?;
        let Some(step) = steps.pop() else { return Some(begin) };
        let close = match self.bytes.get(begin)? {
            b'{' => b'}',
            b'[' => b']',
            _ => return None,
        };
        self.at = begin + 1;
        for number in 0.. {
            if self.bytes.get(self.space()?) == Some(&close) {
                return None;
            }
            let key = if close == b'}' { self.key()? } else { number.to_string() };
            if key == step {
                return self.find(steps);
            }
            self.skip()?;
            if self.bytes.get(self.space()?) == Some(&b',') {
                self.at += 1;
            }
        }
        None
    }

    fn space(&mut self) -> Option<usize> {
        while self.bytes.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        Some(self.at)
    }

    fn key(&mut self) -> Option<String> {
        let begin = self.at;
        self.skip()?;
        let key = serde_json::from_slice(self.bytes.get(begin..self.at)?).ok()?;
        self.space()?;
        self.at += 1;
        Some(key)
    }

    /// Passes one value.
    fn skip(&mut self) -> Option<()> {
        self.space()?;
        let mut depth = 0_u32;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    while *self.bytes.get(self.at)? != b'"' {
                        self.at += if *self.bytes.get(self.at)? == b'\\' { 2 } else { 1 };
                    }
                    self.at += 1;
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                // a number or a word ends where something else begins
                Some(b',' | b'}' | b']') if depth == 0 => return Some(()),
                None => return Some(()),
                Some(_) => {
                    self.at += 1;
                    continue;
                }
            }
            let ended = self.bytes.get(self.at - 1).is_some_and(|b| matches!(b, b'"' | b'}' | b']'));
            if depth == 0 && ended {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_line() {
        let text =
            "{\n \"a\": [1, {\"b/c\": \"x\\\"y\"},\n  3],\n \"d\": {\"e\":\n  true, \"f\": -1.5e3}\n, \"g\":\"\"}";
        for (pointer, line) in
            [("", 1), ("/a", 2), ("/a/1/b~1c", 2), ("/a/2", 3), ("/d", 4), ("/d/e", 5), ("/d/f", 5), ("/g", 6)]
        {
            assert_eq!(line_of(text, pointer), Some(line), "{pointer}");
        }
        for nowhere in ["/x", "/a/9", "/a/0/x", "/d/e/f"] {
            assert_eq!(line_of(text, nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn all_faults_are_told_with_their_places() {
        let bad = "{\"type\": \"ini\", \"content\": [\n{\"section\": 3,\n \"options\": [{\"key\": \"k\", \"value\": 1, \"type\": \"number\"}]}]}";
        let told: Vec<String> =
            shape_faults("app/x/1/user.json", bad.as_bytes()).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().any(|t| t.starts_with("app/x/1/user.json:2 /content/0/section:")), "{told:?}");
        assert!(told.iter().any(|t| t.starts_with("app/x/1/user.json:3 /content/0/options/0/value:")), "{told:?}");
        assert!(shape_faults("README.md", b"{").is_empty());
        let twice = shape_faults("app/x/1/user.json", b"{\"type\": \"ini\",\n\"content\": [],\n\"type\": \"ini\"}");
        assert_eq!(twice.iter().map(ToString::to_string).collect::<Vec<_>>().len(), 1, "{twice:?}");
        assert!(twice[0].message.contains("given twice"), "{twice:?}");
        assert_eq!(shape_faults("service/x.json", b"{\n").len(), 1);
        let command = br#"{"description":"d","arguments":{"type":"objekt"},"timeout_s":1,"idempotent":true}"#;
        assert!(shape_faults("guestcmds/a/b.json", command)[0].message.contains("is not a JSON Schema"));
    }
}
