//! How much of a workflow's time something was under way on some node: a script, a service that
//! starts, a guest command, a host that is made. What is left is time in which StraaS itself made
//! everybody wait.
//!
//! Read off the events, as people see them.

use std::collections::BTreeMap;
use straas_schemas::view::Event;

/// A stretch of time, Unix ms.
type Stretch = (i64, i64);

/// Time in which something was under way, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Covered {
    /// Some script of a stage ran.
    pub scripts_s: f64,
    /// That, or some service was configured and did not work yet.
    pub settling_s: f64,
    /// That, or some guest command ran or some host was on its way.
    pub all_s: f64,
}

/// What was under way from `begin` to `end`, Unix ms.
#[must_use]
pub fn covered(events: &[Event], begin: i64, end: i64) -> Covered {
    let (mut scripts, mut settling, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let mut open: BTreeMap<(&str, String), i64> = BTreeMap::new();
    let mut before = begin;
    for event in events.iter().filter(|e| e.at_ms >= begin && e.at_ms <= end) {
        let (at, text) = (event.at_ms, event.text.as_str());
        let node = event.node.as_ref().map_or("", |node| node.as_str()).to_owned();
        let word = |n: usize| text.split_whitespace().nth(n).unwrap_or_default();
        match event.kind.as_str() {
            "stage" if word(2) == "done" => {
                let took_ms = word(4).parse::<f64>().unwrap_or(0.0) * 1000.0;
                scripts.push((begin.max(at - took_ms as i64), at));
                if word(1) == "config" {
                    open.insert(("config", node), at);
                } else if word(1) == "validate" {
                    settling.extend(open.remove(&("config", node)).map(|since| (since, at)));
                }
            }
            "command" if word(2) == "runs" => drop(open.insert(("command", node), at)),
            "command" if word(1) == "command" => {
                others.extend(open.remove(&("command", node)).map(|since| (since, at)));
            }
            // when that began nobody says: it is what happened last
            "host" if text.ends_with("removed") => others.push((before, at)),
            "host" => drop(open.insert(("host", node), at)),
            "agent" => others.extend(open.remove(&("host", node)).map(|since| (since, at))),
            _ => {}
        }
        before = at;
    }
    let mut sum = |more: &mut Vec<Stretch>| {
        scripts.append(more);
        length_s(&mut scripts)
    };
    Covered { scripts_s: sum(&mut Vec::new()), settling_s: sum(&mut settling), all_s: sum(&mut others) }
}

/// Length of all stretches together, each moment counted once.
fn length_s(stretches: &mut [Stretch]) -> f64 {
    stretches.sort_unstable();
    let (mut sum, mut until) = (0, i64::MIN);
    for (begin, end) in stretches.iter().copied() {
        sum += (end - begin.max(until)).max(0);
        until = until.max(end);
    }
    sum as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_ms: i64, kind: &str, node: &str, text: &str) -> Event {
        serde_json::from_value(serde_json::json!({
            "seq": at_ms, "at_ms": at_ms, "topology": "t", "node": node, "kind": kind, "text": text
        }))
        .expect("an event")
    }

    #[test]
    fn each_moment_counts_once_and_a_gap_not_at_all() {
        let events = [
            event(500, "stage", "a", "a: config done in 9.0 s"),
            event(3_000, "stage", "a", "a: install done in 2.0 s"),
            event(4_000, "stage", "b", "b: config done in 1.5 s"),
            event(5_000, "stage", "b", "b: validate waits: not yet"),
            event(6_000, "stage", "b", "b: validate done in 0.1 s"),
            event(8_000, "host", "a", "a: host is removed"),
            event(8_500, "command", "b", "b: kafka-cmd/drain runs (id)"),
            event(9_500, "command", "b", "b: command id succeeded"),
        ];
        let found = covered(&events, 1_000, 10_000);
        let expected = Covered { scripts_s: 3.1, settling_s: 5.0, all_s: 8.0 };
        assert_eq!(found, expected);
    }
}
