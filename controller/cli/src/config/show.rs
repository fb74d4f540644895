//! Answers about the config repo, for people.

use crate::output::{table, time, word};
use straas_schemas::configuration::{
    Blame, BlamedValue, CommitView, ConfigContent, ConfigDiff, ConfigNode, ConfigWritten, EffectiveValue,
    EffectiveView, EntryKind, FileChange, MovedValue, ResealView, SettingsView, UpdatesView,
};

/// Digits of a commit that a person compares.
const SHORT: usize = 10;

/// The first digits of a commit.
pub fn short(commit: &str) -> String {
    commit.chars().take(SHORT).collect()
}

/// A folder's entries; of a file, its text.
pub fn folder(node: &ConfigNode) -> String {
    match &node.content {
        ConfigContent::File { content } => content.clone(),
        ConfigContent::Folder { entries } => {
            let row = |e: &straas_schemas::configuration::ConfigEntry| match e.kind {
                EntryKind::Folder => vec![format!("{}/", e.name), "-".to_owned()],
                EntryKind::File => vec![e.name.clone(), e.size.to_string()],
            };
            table(&["name", "bytes"], entries.iter().map(row))
        }
    }
}

/// What a write did.
pub fn written(done: &ConfigWritten) -> String {
    if done.changed {
        format!("{} is written to {} (commit {})", done.path, done.branch, done.commit)
    } else {
        format!("{} on {} is so already (commit {})", done.path, done.branch, done.commit)
    }
}

/// Differences, value by value.
pub fn diff(diff: &ConfigDiff) -> String {
    if diff.files.is_empty() {
        return "nothing differs".to_owned();
    }
    let mut out = String::new();
    for file in &diff.files {
        let how = match file.change {
            FileChange::Added => "added",
            FileChange::Removed => "removed",
            FileChange::Changed => "changed",
        };
        let what = if file.keys.is_empty() && file.change == FileChange::Changed { ", no value" } else { "" };
        out.push_str(&format!("{} ({how}{what})\n", file.path));
        for key in &file.keys {
            let value = |side: &Option<String>| side.clone().unwrap_or_else(|| "(absent)".to_owned());
            out.push_str(&format!("  {}.{}: {} → {}\n", key.section, key.key, value(&key.old), value(&key.new)));
        }
    }
    if diff.truncated {
        out.push_str("and more files, which are not shown\n");
    }
    out
}

/// A history.
pub fn log(items: &[CommitView]) -> String {
    let row = |c: &CommitView| {
        let first = c.message.lines().next().unwrap_or_default().to_owned();
        vec![c.commit.clone(), time(c.at_ms), c.author.clone(), first]
    };
    table(&["commit", "when", "who", "why"], items.iter().map(row))
}

/// Every value with who set it.
pub fn effective(view: &EffectiveView, doc: bool) -> String {
    let mut out = format!("{} {} at commit {}\n", view.kind, view.version, view.commit);
    if view.head.as_ref().is_some_and(|head| *head != view.commit) {
        out.push_str(&format!("{} has newer commits; apply them with: straas component configure\n", view.branch));
    }
    out.push_str(&values(&view.values, doc, true));
    out
}

/// The settings of the service with who set them.
pub fn settings(view: &SettingsView, doc: bool) -> String {
    let place = view.zone.as_ref().map_or_else(|| "everywhere".to_owned(), |zone| format!("in {zone}"));
    let mut out = match &view.commit {
        Some(commit) => format!("in force {place}: commit {commit}\n"),
        None => format!("in force {place}: what is built in, and the controller's own configuration\n"),
    };
    if !view.faults.is_empty() {
        out.push_str(&format!("the newest commit {} is not in force:\n", view.head));
        let each = view.faults.iter().map(|fault| format!("  {}: {}\n", fault.pointer, fault.message));
        out.extend(each);
    }
    out.push_str(&values(&view.values, doc, false));
    out
}

fn values(values: &[EffectiveValue], doc: bool, settable: bool) -> String {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = values.iter().map(|v| {
        let who = v.set_by.as_ref();
        let mut row = vec![
            format!("{}.{}", v.section, v.key),
            text(&v.value),
            if v.value == v.default { "-".to_owned() } else { text(&v.default) },
            word(&v.kind),
            file(&v.file).to_owned(),
            who.map_or_else(|| "-".to_owned(), |c| format!("{} {}", short(&c.commit), c.author)),
        ];
        if settable {
            row.insert(4, if v.settable { "yes" } else { "no" }.to_owned());
        }
        if doc {
            row.push(v.doc.clone());
        }
        row
    });
    let mut header = vec!["key", "value", "default", "type", "from", "set by"];
    if settable {
        header.insert(4, "settable");
    }
    if doc {
        header.push("what it does");
    }
    table(&header, rows)
}

/// A file by its name in its folder; of a zone by the zone's as well.
fn file(path: &str) -> &str {
    path.strip_prefix("service/").unwrap_or_else(|| path.rsplit('/').next().unwrap_or_default())
}

/// Who set every value of a file.
pub fn blame(blame: &Blame) -> String {
    let row = |value: &BlamedValue| {
        let by = |pick: fn(&CommitView) -> String| value.set_by.as_ref().map_or_else(|| "-".to_owned(), pick);
        vec![
            format!("{}.{}", value.section, value.key),
            value.value.clone(),
            by(|commit| commit.author.clone()),
            by(|commit| time(commit.at_ms)),
            by(|commit| short(&commit.commit)),
            by(|commit| commit.message.lines().next().unwrap_or_default().to_owned()),
        ]
    };
    table(&["key", "value", "by", "at", "commit", "why"], blame.values.iter().map(row))
}

/// Branches on which secrets were sealed anew.
pub fn resealed(view: &ResealView) -> String {
    if view.resealed.is_empty() {
        return "nothing is sealed with an older key".to_owned();
    }
    table(&["branch", "commit"], view.resealed.iter().map(|one| vec![one.branch.clone(), short(&one.commit)]))
}

/// Defaults that moved.
pub fn updates(view: &UpdatesView, taken: bool) -> String {
    if view.moved.is_empty() {
        return "no default moved since".to_owned();
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
    let row = |m: &MovedValue| {
        let yours = match (&m.yours, m.kept) {
            (Some(yours), true) => format!("{yours} (stays)"),
            (Some(yours), false) => format!("{yours} (its key cannot be set any more)"),
            (None, _) => "-".to_owned(),
        };
        let parts: Vec<&str> = m.parts.iter().map(|part| part.name()).collect();
        let with = |value: &Option<String>, limits: &Option<String>| match limits {
            Some(limits) => format!("{} ({limits})", text(value)),
            None => text(value),
        };
        let (was, now) = (with(&m.was, &m.limits_were), with(&m.now, &m.limits_are));
        vec![format!("{}.{}", m.section, m.key), parts.join(", "), was, now, yours]
    };
    let next = match taken {
        true => format!(
            "taken up on {} (commit {}); straas component configure applies it",
            view.branch,
            short(&view.commit)
        ),
        false => "straas config updates … --take takes them up".to_owned(),
    };
    format!("{}\n{next}", table(&["key", "moved", "was", "is now", "yours"], view.moved.iter().map(row)))
}
