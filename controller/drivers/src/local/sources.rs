//! Where this machine gets its Debian packages from.
//!
//! The image is made from the machine's own apt sources, so that a mirror, a snapshot or a proxy
//! that an operator has configured is used here too. No mirror is built into the program.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::HostError;
use crate::local::tools::run;

/// The release that the image is made of.
pub const SUITE: &str = "bookworm";
/// Which of apt's settings hold for the image's build as well.
const SETTINGS: [&str; 4] = ["Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date"];

/// The one-line apt sources for the image: those of the machine, or those of the mirror given.
pub fn apt_sources(mirror: Option<&str>) -> Result<Vec<String>, HostError> {
    if let Some(mirror) = mirror {
        let mirror = mirror.trim_end_matches('/');
        return Ok(vec![
            format!("deb {mirror} {SUITE} main"),
            format!("deb {mirror} {SUITE}-updates main"),
            format!("deb {mirror}-security {SUITE}-security main"),
        ]);
    }
    let mut lines = Vec::new();
    let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(dir.flatten().map(|entry| entry.path()));
    }
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        match file.extension().and_then(|e| e.to_str()) {
            Some("sources") => lines.extend(deb822(&text)),
            Some("list") => lines.extend(text.lines().filter_map(one_line)),
            _ => {}
        }
    }
    lines.dedup();
    if lines.is_empty() {
        return Err(HostError::Invalid {
            field: "mirror",
            reason: format!(
                "this machine's /etc/apt has no source for Debian {SUITE}; name a mirror in the configuration"
            ),
        });
    }
    Ok(lines)
}

/// apt's settings (proxies, how old an index may be) as `Key "value";` lines.
pub fn apt_settings() -> Result<Vec<String>, HostError> {
    let output = run("reading apt's settings", Command::new("apt-config").arg("dump"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = |line: &&str| {
        SETTINGS.iter().any(|key| line.len() > key.len() && line[..key.len()].eq_ignore_ascii_case(key))
            && !line.contains(" \"\";")
    };
    Ok(text.lines().filter(wanted).map(str::to_owned).collect())
}

/// The stanzas of a deb822 file that are about binary packages of our release.
fn deb822(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let mut value = String::new();
            let mut inside = false;
            for line in stanza.lines().filter(|line| !line.starts_with('#')) {
                if line.starts_with([' ', '\t']) {
                    if inside {
                        value.push_str(line);
                    }
                } else if let Some((key, rest)) = line.split_once(':') {
                    inside = key.trim().eq_ignore_ascii_case(name);
                    if inside {
                        value.push_str(rest);
                    }
                }
            }
            value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let disabled = field("Enabled").first().is_some_and(|value| value.eq_ignore_ascii_case("no"));
        if disabled || !field("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        for uri in field("URIs") {
            for suite in field("Suites").iter().filter(|suite| ours(suite)) {
                lines.push(format!("deb {uri} {suite} {}", field("Components").join(" ")));
            }
        }
    }
    lines
}

/// A classic line about binary packages of our release, without its options (they name key files
/// of this machine; the image has Debian's keys).
fn one_line(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    let words: Vec<&str> = rest.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
    (words.len() >= 3 && ours(words[1])).then(|| format!("deb {}", words.join(" ")))
}

fn ours(suite: &str) -> bool {
    [SUITE.to_owned(), format!("{SUITE}-updates"), format!("{SUITE}-security")].iter().any(|name| name == suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deb822_stanzas_give_lines() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm\n bookworm-updates\nComponents: main\nSigned-By: /x\n\n\
            Types: deb\nURIs: http://mirror.example/other\nSuites: trixie\nComponents: main\n\n\
            Enabled: no\nTypes: deb\nURIs: http://mirror.example/off\nSuites: bookworm\nComponents: main\n";
        assert_eq!(
            deb822(text),
            [
                "deb http://mirror.example/debian bookworm main",
                "deb http://mirror.example/debian bookworm-updates main"
            ]
        );
    }

    #[test]
    fn classic_lines_are_read() {
        assert_eq!(
            one_line("deb [arch=amd64 signed-by=/k] http://m.example/debian bookworm main contrib # x").as_deref(),
            Some("deb http://m.example/debian bookworm main contrib")
        );
        assert_eq!(one_line("deb-src http://m.example/debian bookworm main"), None);
        assert_eq!(one_line("# deb http://m.example/debian bookworm main"), None);
        assert_eq!(one_line("deb http://m.example/debian sid main"), None);
    }
}
