//! Prints results: tables for people, JSON and YAML for programs.

use crate::error::CliError;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use std::borrow::Cow;

/// How to print results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// Prints a value as JSON or YAML, or what `table` makes of it.
pub fn print<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), CliError> {
    let text = match format {
        Format::Table => clean(&table(value)).into_owned(),
        Format::Json => serde_json::to_string_pretty(value).map_err(|e| CliError::Local(e.to_string()))?,
        Format::Yaml => serde_saphyr::to_string(value).map_err(|e| CliError::Local(e.to_string()))?,
    };
    anstream::println!("{}", text.trim_end());
    Ok(())
}

/// Text of nodes and scripts, without what could steer a terminal: only line breaks and tabs stay.
pub fn clean(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(steers) { text.replace(steers, "\u{fffd}").into() } else { text.into() }
}

/// A table without lines, as wide as it needs to be.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>());
    let mut any = false;
    for row in rows {
        any = true;
        table.add_row(row);
    }
    if any { table.trim_fmt() } else { "(none)".to_owned() }
}

/// A duration in ms for people.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{:.1}s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A time in Unix ms as local time.
pub fn time(ms: i64) -> String {
    let stamp = jiff::Timestamp::from_millisecond(ms).map(|t| t.to_zoned(jiff::tz::TimeZone::system()));
    stamp.map_or_else(|_| ms.to_string(), |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// A word of the API as people read it: a serialised enum without its quotes.
pub fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
