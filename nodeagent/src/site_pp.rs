//! Renders the sections that `pre_config` sent as a Puppet manifest.
//!
//! The sections are data from scripts and tenants; what comes out is code that Puppet runs as
//! root. So every string is single-quoted with `\` and `'` escaped, which in Puppet leaves nothing
//! that could be interpreted (no `$`, no `${}`), and names are checked against Puppet's grammar.
//! The same sections always give the same bytes: the digest of `config` depends on them.
//!
//! Never here: defaults, and knowledge of any class.

use crate::messages::Sections;
use serde_json::Value;
use std::fmt::Write as _;

/// Deepest nesting of lists and maps: a limit for the recursion, far above any real parameter.
const DEPTH_MAX: usize = 16;

/// The manifest, or what is wrong with the sections.
///
/// # Errors
/// A name that is no Puppet name, a value that has no form in Puppet, nesting too deep.
pub fn render(sections: &Sections) -> Result<String, String> {
    let mut text =
        String::from("# Rendered by straas-agent from the sections of pre_config. Changes are overwritten.\n");
    for (class, parameters) in sections {
        if !class.split("::").all(is_name) {
            return Err(format!("{class:?} is not the name of a Puppet class"));
        }
        let _ = write!(text, "\nclass {{ '{class}':\n");
        for (key, value) in parameters {
            if !is_name(key) {
                return Err(format!("{key:?} of {class} is not the name of a Puppet parameter"));
            }
            let _ = write!(text, "  {key} => ");
            expression(&mut text, value, 1).map_err(|what| format!("{key} of {class}: {what}"))?;
            text.push_str(",\n");
        }
        text.push_str("}\n");
    }
    Ok(text)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn expression(text: &mut String, value: &Value, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested deeper than {DEPTH_MAX}"));
    }
    let indent = "  ".repeat(depth + 1);
    let outdent = "  ".repeat(depth);
    match value {
        Value::Null => return Err("null has no meaning here; leave the parameter out".into()),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => {
            // Puppet's integers have 64 bits with sign, and it reads 1e5 as a float as JSON does
            if number.is_u64() && !number.is_i64() {
                return Err(format!("{number} does not fit 64 bits with sign"));
            }
            let _ = write!(text, "{number}");
        }
        Value::String(string) => quote(text, string)?,
        Value::Array(items) if items.is_empty() => text.push_str("[]"),
        Value::Array(items) => {
            text.push_str("[\n");
            for item in items {
                text.push_str(&indent);
                expression(text, item, depth + 1)?;
                text.push_str(",\n");
            }
            let _ = write!(text, "{outdent}]");
        }
        Value::Object(items) if items.is_empty() => text.push_str("{}"),
        Value::Object(items) => {
            text.push_str("{\n");
            // sorted, whatever order this build's JSON maps keep
            for (key, item) in items.iter().collect::<std::collections::BTreeMap<_, _>>() {
                text.push_str(&indent);
                quote(text, key)?;
                text.push_str(" => ");
                expression(text, item, depth + 1)?;
                text.push_str(",\n");
            }
            let _ = write!(text, "{outdent}}}");
        }
    }
    Ok(())
}

fn quote(text: &mut String, string: &str) -> Result<(), String> {
    if string.contains('\0') {
        return Err("a text contains a NUL character".into());
    }
    text.push('\'');
    for c in string.chars() {
        if matches!(c, '\\' | '\'') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('\'');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(json: &str) -> Sections {
        serde_json::from_str(json).expect("sections")
    }

    #[test]
    fn golden() {
        let rendered = render(&sections(include_str!("../testdata/sections.json"))).expect("renders");
        assert_eq!(rendered, include_str!("../testdata/site.pp"), "the rendering changed:\n{rendered}");
    }

    #[test]
    fn what_puppet_would_not_take_or_would_take_for_code_is_refused() {
        let check = |json: &str, part: &str| {
            let error = render(&sections(json)).expect_err(json);
            assert!(error.contains(part), "{json}: {error}");
        };
        check(r#"{"zookeeper': } exec { 'x":{}}"#, "class");
        check(r#"{"Zookeeper":{}}"#, "class");
        check(r#"{"a::":{}}"#, "class");
        check(r#"{"a":{"b => 1, c":1}}"#, "parameter");
        check(r#"{"a":{"b":null}}"#, "null");
        check(r#"{"a":{"b":18446744073709551615}}"#, "64 bits");
        check(r#"{"a":{"b":"x\u0000"}}"#, "NUL");
        check(&format!(r#"{{"a":{{"b":{}1{}}}}}"#, "[".repeat(20), "]".repeat(20)), "deeper");
    }
}
