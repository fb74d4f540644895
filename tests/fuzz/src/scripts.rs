//! What scripts say, and what is made of it.

use serde_json::Value;
use straas_agent::commands::arguments as checked;
use straas_agent::messages::{Parser, Said, Sections, Speaker};
use straas_agent::redact::{HIDDEN, Secrets};
use straas_agent::site_pp as rendered;

fn said(speaker: Speaker, parts: &[&[u8]]) -> Said {
    let mut parser = Parser::of(speaker);
    for part in parts {
        parser.feed(part);
    }
    parser.finish()
}

/// The same is heard however the bytes are cut into pieces.
pub(super) fn messages(data: &[u8]) {
    let (at, data) = data.split_first().map_or((0, data), |(at, data)| (usize::from(*at), data));
    for speaker in [Speaker::Stage, Speaker::Command] {
        let whole = said(speaker, &[data]);
        let (head, tail) = data.split_at(at.min(data.len()));
        assert_eq!(said(speaker, &[head, tail]), whole);
        let single: Vec<&[u8]> = data.chunks(1).collect();
        assert_eq!(said(speaker, &single), whole);
        let _ = whole.hidden(&Secrets::default());
        if let Some(sections) = &whole.sections {
            manifest(sections);
        }
    }
}

/// Sections become a manifest in which nothing of a text is code.
pub(super) fn site_pp(data: &[u8]) {
    if let Ok(sections) = serde_json::from_slice::<Sections>(data) {
        manifest(&sections);
    }
}

fn manifest(sections: &Sections) {
    let Ok(text) = rendered::render(sections) else {
        return;
    };
    // without its quoted texts it has nothing but names, numbers and its own punctuation
    let mut bare = String::new();
    let mut chars = text.lines().skip(1).flat_map(|line| line.chars().chain(['\n']));
    while let Some(c) = chars.next() {
        if c != '\'' {
            bare.push(c);
            continue;
        }
        loop {
            match chars.next() {
                Some('\\') => drop(chars.next()),
                Some('\'') => break,
                Some(_) => {}
                None => panic!("a text has no end: {text}"),
            }
        }
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "_{}[]:,=>-+. \n".contains(c);
    assert!(bare.chars().all(known), "code got in:\n{text}");
    assert_eq!(bare.matches("class {").count(), sections.len(), "{text}");
}

/// No secret is left, however the bytes are cut into pieces: first line the secret, second the output.
pub(super) fn secrets(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (Ok(secret), output) = (std::str::from_utf8(&data[..end]), &data[end + 1..]) else {
        return;
    };
    let context = serde_json::json!({ "secrets": [["s", "k"]], "config": { "s": { "k": secret } } });
    let secrets = Secrets::of(&context);
    let at = output.len() / 2;
    for parts in [vec![output], vec![&output[..at], &output[at..]], output.chunks(1).collect()] {
        let mut stream = secrets.stream();
        let mut shown = Vec::new();
        for part in parts {
            shown.extend_from_slice(&stream.feed(part));
        }
        shown.extend(stream.finish());
        let told = shown.windows(secret.len().max(1)).any(|window| window == secret.as_bytes());
        // what stands for it may make it up anew, from its own stars and what is around them
        assert!(!told || secret.len() < 4 || shown.windows(HIDDEN.len()).any(|window| window == HIDDEN.as_bytes()));
        if !output.windows(secret.len().max(1)).any(|window| window == secret.as_bytes())
            && !secret.contains(['"', '\\'])
        {
            assert!(shown == output || secret.chars().any(char::is_control), "something else was hidden");
        }
    }
}

/// Arguments of guest commands: first line the schema, second the arguments. Those that are let through have the
/// names of variables.
pub(super) fn arguments(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (Ok(schema), Ok(Value::Object(args))) =
        (serde_json::from_slice::<Value>(&data[..end]), serde_json::from_slice::<Value>(&data[end + 1..]))
    else {
        return;
    };
    if checked::check(&schema, &args).is_ok() {
        for (name, value) in checked::variables(&args) {
            assert!(!name.contains(['=', '\0']), "{name:?} is no variable");
            assert!(!value.as_encoded_bytes().contains(&0), "{name} has a NUL");
        }
    }
}
