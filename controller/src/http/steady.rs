//! What of an answer its ETag is made of: the bytes that are sent, but for what every heartbeat changes.
//!
//! An answer is serialised once. What nobody decides upon is cut out of the text by its name, wherever it stands, so
//! that nothing has to be parsed again or held as a tree. Never here: other JSON than that of `serde_json`, which has
//! no space between a name and its colon.

/// What each heartbeat changes: nobody decides upon it.
const UNSTEADY: [&str; 2] = ["vitals", "seen_ms"];

/// JSON as `serde_json` writes it, without the members that every heartbeat changes.
pub fn steady(json: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(json.len()), 0);
    while let Some(byte) = json.get(at) {
        let end = if *byte == b'"' { string_end(json, at) } else { at + 1 };
        // a text before a colon is a name: between them is no space
        let is_name = *byte == b'"' && json.get(end) == Some(&b':');
        if is_name && UNSTEADY.iter().any(|name| json[at + 1..end - 1] == *name.as_bytes()) {
            at = value_end(json, end + 1);
            // as if it had never been there, so one comma goes with it
            if json.get(at) == Some(&b',') {
                at += 1;
            } else if out.last() == Some(&b',') {
                out.pop();
            }
            continue;
        }
        out.extend_from_slice(&json[at..end]);
        at = end;
    }
    out
}

/// Behind a text that begins here.
fn string_end(json: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

/// Behind a value that begins here.
fn value_end(json: &[u8], begin: usize) -> usize {
    let (mut at, mut depth) = (begin, 0);
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => {
                at = string_end(json, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_heartbeat_changes_is_left_out() {
        for (json, left) in [
            (r#"{"a":1,"b":[true,"x"]}"#, r#"{"a":1,"b":[true,"x"]}"#),
            (r#"{"vitals":{"load":[1,2],"x":{"y":"}"}},"state":"up"}"#, r#"{"state":"up"}"#),
            (r#"{"state":"up","seen_ms":17}"#, r#"{"state":"up"}"#),
            (r#"{"seen_ms":17,"vitals":null}"#, "{}"),
            (r#"{"n":[{"seen_ms":1,"s":1},{"s":2,"vitals":"a\"b,"}]}"#, r#"{"n":[{"s":1},{"s":2}]}"#),
            // a value is no name, and a name that holds one is another
            (r#"["vitals","seen_ms"]"#, r#"["vitals","seen_ms"]"#),
            (r#"{"a":"seen_ms","b\\":"\"vitals\":1"}"#, r#"{"a":"seen_ms","b\\":"\"vitals\":1"}"#),
            (r#"{"last_seen_ms":1,"seen_ms_":2}"#, r#"{"last_seen_ms":1,"seen_ms_":2}"#),
        ] {
            assert_eq!(String::from_utf8(steady(json.as_bytes())).expect("text"), left, "{json}");
            serde_json::from_str::<serde_json::Value>(left).expect("json still");
        }
        // what is cut off is no reason to fail
        for end in 0..40 {
            steady(&br#"{"seen_ms":"a\"","vitals":{"a":[1]},"b":1}"#[..end]);
        }
    }
}
