//! Values that must not be seen: found in whatever leaves a script, and replaced before it is kept or sent.
//!
//! The assignment says which values of the configuration are secret. What a script prints of them, as
//! they are or as JSON has them, becomes [`HIDDEN`]; Puppet shows differences of files, and an error
//! shows a command line. A value that is split between two reads is held back until the rest has
//! come. What a script turns into something else (base64, a hash) is not known for what it is.
//!
//! Never here: `sections`, which carry the values to `site.pp`.

use serde_json::Value;
use std::borrow::Cow;
use std::rc::Rc;

/// Stands for a value that is not shown.
pub const HIDDEN: &str = "***";
/// A value shorter than this is not looked for: it would be found everywhere.
const LENGTH_MIN: usize = 4;

/// Values that are not shown.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Rc<Vec<String>>);

impl Secrets {
    /// Those that a context names under `secrets`, a list of `[section, key]`.
    #[must_use]
    pub fn of(context: &Value) -> Self {
        let mut found = Vec::new();
        for name in context["secrets"].as_array().into_iter().flatten() {
            let (Some(section), Some(key)) = (name[0].as_str(), name[1].as_str()) else { continue };
            let Some(value) = context["config"][section][key].as_str() else { continue };
            let quoted = Value::from(value).to_string();
            let as_json = quoted.trim_matches('"').to_owned();
            found.extend([value.to_owned(), as_json].into_iter().filter(|value| value.len() >= LENGTH_MIN));
        }
        // the longest first: one may be a part of another
        found.sort_by_key(|value| std::cmp::Reverse(value.len()));
        found.dedup();
        Self(Rc::new(found))
    }

    /// A text without them.
    #[must_use]
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        for value in self.0.iter() {
            if out.contains(value.as_str()) {
                out = out.replace(value.as_str(), HIDDEN).into();
            }
        }
        out
    }

    /// A document without them.
    pub fn hide_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(hidden) = self.hide(text) {
                    *text = hidden;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in(item)),
            Value::Object(map) => map.values_mut().for_each(|item| self.hide_in(item)),
            _ => {}
        }
    }

    /// For one stream of bytes.
    #[must_use]
    pub fn stream(&self) -> Stream {
        Stream { secrets: self.clone(), held: Vec::new() }
    }
}

/// Hides values in bytes that come in pieces.
#[derive(Debug)]
pub struct Stream {
    secrets: Secrets,
    /// The end of what came, while it may be the beginning of a value.
    held: Vec<u8>,
}

impl Stream {
    /// The next bytes, as far as it is known what they are.
    pub fn feed<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.secrets.0.is_empty() {
            return Cow::Borrowed(bytes);
        }
        self.held.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let rest = &self.held[at..];
            if let Some(value) = self.secrets.0.iter().find(|value| rest.starts_with(value.as_bytes())) {
                out.extend_from_slice(HIDDEN.as_bytes());
                at += value.len();
            } else if self.secrets.0.iter().any(|value| value.as_bytes().starts_with(rest)) {
                break;
            } else {
                out.push(rest[0]);
                at += 1;
            }
        }
        self.held.drain(..at);
        Cow::Owned(out)
    }

    /// What was held back and is no value after all.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secrets() -> Secrets {
        Secrets::of(&json!({
            "config": { "db": { "password": "open sesame", "pin": "123", "quoted": "a\"b\\c", "plain": "visible" } },
            "secrets": [["db", "password"], ["db", "pin"], ["db", "quoted"], ["db", "gone"], 7],
        }))
    }

    #[test]
    fn values_are_hidden_wherever_they_are_cut() {
        let text = "user=ann password='open sesame' open sesam 123 visible {\"q\":\"a\\\"b\\\\c\"} open ses";
        let expect = "user=ann password='***' open sesam 123 visible {\"q\":\"***\"} open ses";
        for size in 1..=text.len() {
            let mut stream = secrets().stream();
            let mut out = Vec::new();
            text.as_bytes().chunks(size).for_each(|piece| out.extend_from_slice(&stream.feed(piece)));
            out.extend(stream.finish());
            assert_eq!(String::from_utf8(out).expect("text"), expect, "in pieces of {size}");
        }
    }

    #[test]
    fn documents_are_hidden_deep_and_nothing_is_held_without_secrets() {
        let mut value = json!({ "a": ["x open sesame y", { "b": "open sesame" }], "c": 5 });
        secrets().hide_in(&mut value);
        assert_eq!(value, json!({ "a": ["x *** y", { "b": "***" }], "c": 5 }));
        let mut stream = Secrets::default().stream();
        assert!(matches!(stream.feed(b"open"), Cow::Borrowed(b"open")));
        assert!(stream.finish().is_empty());
    }
}
