//! HAProxy, with the very files that operators are given as examples (`packaging/haproxy`).

use super::net::{Net, Program, address};
use anyhow::Result;
use std::path::Path;

/// Before users and agents.
pub const CONTROLLERS: &str = include_str!("../../../packaging/haproxy/controllers.cfg");
/// Before PostgreSQL.
pub const DATABASE: &str = include_str!("../../../packaging/haproxy/database.cfg");

/// Starts it on a server; as many of the example's servers are there as are named by their numbers.
///
/// # Errors
/// It cannot be started.
pub fn start(net: &Net, dir: &Path, number: u8, example: &str, servers: &[u8]) -> Result<Program> {
    let name = format!("haproxy-{number}");
    let path = dir.join(format!("{name}.cfg"));
    std::fs::write(&path, adapted(example, servers))?;
    net.start(number, &name, &["haproxy", "-db", "-f", &path.to_string_lossy()])
}

fn adapted(example: &str, servers: &[u8]) -> String {
    let count = servers.len();
    let there = |line: &str| (count + 1..=9).all(|absent| !line.contains(&format!(" 192.0.2.1{absent}:")));
    let mut text: String = example.lines().filter(|line| there(line)).map(|line| format!("{line}\n")).collect();
    for (number, own) in (1..=count).zip(servers) {
        text = text.replace(&format!(" 192.0.2.1{number}:"), &format!(" {}:", address(*own)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_used_as_they_are_but_for_their_addresses() {
        for (example, kept) in [(CONTROLLERS, 8), (DATABASE, 2)] {
            let text = adapted(example, &[2, 3]);
            let servers = text.lines().filter(|line| line.trim_start().starts_with("server ")).count();
            assert_eq!((servers, text.contains("192.0.2.")), (kept, false), "{text}");
            assert_eq!(adapted(example, &[2, 3, 4]).lines().count(), example.lines().count());
        }
    }
}
