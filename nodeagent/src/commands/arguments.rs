//! A command's arguments: checked once more, and as variables.
//!
//! The controller has checked them against the whole schema, of the commit that it looked at. What
//! is checked again is what a node must not rely on: that the release here knows each of them, that
//! none is missing, and that each is of its type. Patterns and limits are the command's own matter.
//!
//! Never here: a shell.

use serde_json::{Map, Value};
use std::ffi::OsString;

/// Longest name of an argument.
const NAME_MAX: usize = 31;

/// Whether a command with this schema takes these arguments.
///
/// # Errors
/// The first that it does not take, in words.
pub fn check(schema: &Value, args: &Map<String, Value>) -> Result<(), String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, value) in args {
        if !is_name(name) {
            return Err(format!("the argument name {name:?} is not of the form [a-z][a-z0-9_]*"));
        }
        let Some(about) = properties.and_then(|properties| properties.get(name)) else {
            return Err(format!("the command has no argument {name:?} in the scripts on this node"));
        };
        let wanted = about.get("type").and_then(Value::as_str).unwrap_or("any");
        let right = match wanted {
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            _ => true,
        };
        // a variable ends at a zero byte, so what follows it would be lost
        if !right || value.as_str().is_some_and(|text| text.contains('\0')) {
            return Err(format!("the argument {name:?} is not of the type {wanted}"));
        }
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let missing = |name: &&str| !args.contains_key(*name);
    required.into_iter().find(missing).map_or(Ok(()), |name| Err(format!("the argument {name:?} is missing")))
}

/// `STRAAS_ARG_<NAME>` for every scalar.
pub fn variables(args: &Map<String, Value>) -> impl Iterator<Item = (String, OsString)> {
    args.iter().filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(on) => on.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((format!("STRAAS_ARG_{}", name.to_ascii_uppercase()), text.into()))
    })
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_schema_knows_and_nothing_else() {
        let schema = json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "count": {"type": "integer"}, "force": {"type": "boolean"}}});
        let args = |value: Value| value.as_object().cloned().unwrap_or_default();
        let good = args(json!({"name": "a b", "count": 3, "force": true}));
        check(&schema, &good).expect("fine");
        let variables: Vec<_> = variables(&good).collect();
        let expect = [("COUNT", "3"), ("FORCE", "true"), ("NAME", "a b")];
        assert_eq!(variables, expect.map(|(name, value)| (format!("STRAAS_ARG_{name}"), value.into())));
        for (bad, part) in [
            (json!({}), "missing"),
            (json!({"name": 1}), "type string"),
            (json!({"name": "a\0b"}), "type string"),
            (json!({"name": "a", "count": 1.5}), "type integer"),
            (json!({"name": "a", "other": 1}), "no argument"),
            (json!({"name": "a", "LD_PRELOAD": "x"}), "form"),
        ] {
            let reason = check(&schema, &args(bad)).expect_err(part);
            assert!(reason.contains(part), "{reason}");
        }
    }
}
