//! Reads `/etc/inittab`: the list of programs that a host's init keeps running.
//!
//! The standard form `id:runlevels:action:process`. Only the action `respawn` is acted upon; all
//! else is skipped, because a microhost has neither consoles nor run levels. A malformed line is
//! skipped as well: one bad line must not keep the agent from starting.

/// One program to keep running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Names its log file: 1 to 16 of letters, digits, `_`, `-`.
    pub id: String,
    /// A shell command line.
    pub command: String,
}

/// Longest id: sysvinit takes 4, we name files with it.
const ID_LENGTH_MAX: usize = 16;

/// The respawn entries in their order; of several with one id the first counts.
pub(crate) fn parse(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.splitn(4, ':').collect();
        let [id, _, "respawn", command] = fields[..] else { continue };
        let named = !id.is_empty()
            && id.len() <= ID_LENGTH_MAX
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if named && !command.trim().is_empty() && !entries.iter().any(|e| e.id == id) {
            entries.push(Entry { id: id.to_owned(), command: command.trim().to_owned() });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn respawn_lines_are_read_and_all_else_is_skipped() {
        let text = "# comment\n\
            id:2:initdefault:\n\
            si::sysinit:/etc/init.d/rcS\n\
            1:2345:respawn:/sbin/getty 38400 tty1\n\
            sa:2345:respawn:/usr/sbin/straas-agent --config /etc/a:b.toml\n\
            sa:2345:respawn:/bin/second-with-the-same-id\n\
            ../x:2345:respawn:/bin/evil\n\
            :2345:respawn:/bin/nameless\n\
            e:2345:respawn:   \n\
            half:2345\n\n";
        let found = parse(text);
        let seen: Vec<(&str, &str)> = found.iter().map(|e| (e.id.as_str(), e.command.as_str())).collect();
        assert_eq!(seen, [("1", "/sbin/getty 38400 tty1"), ("sa", "/usr/sbin/straas-agent --config /etc/a:b.toml")]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_the_parser_fail(text in ".*") {
            for entry in parse(&text) {
                proptest::prop_assert!(!entry.id.contains('/') && !entry.command.is_empty());
            }
        }
    }
}
