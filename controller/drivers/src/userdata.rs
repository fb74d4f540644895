//! The first-boot script of a host with a file system of its own, as a cloud would carry it.
//!
//! It is a plain `sh` script that writes the agent's files and starts the agent, by systemd where
//! that runs, by a line in `/etc/inittab` where not. It may run again after a crash in its middle,
//! so every step is idempotent. Secrets stand in here-documents: they never become an argument of
//! a process.

use crate::agent::{AgentPaths, agent_toml};
use crate::hosts::HostSpec;

/// The inittab line that keeps the agent running where there is no systemd.
pub const INITTAB_LINE: &str = "sa:2345:respawn:/usr/sbin/straas-agent --config /etc/straas/agent.toml";

/// Renders the script. Contains the join token: keep it in files of mode 0600.
pub fn render(spec: &HostSpec) -> String {
    let agent = &spec.agent;
    let paths = AgentPaths { prefix: String::new() };
    let mut script = String::from(
        "#!/bin/sh\n# First boot of a StraaS node; may run again after a crash in its middle.\nset -eu\numask 077\nmkdir -p /etc/straas\n",
    );
    put(&mut script, "/etc/straas/agent.toml", 600, &agent_toml(agent, &paths));
    put(&mut script, "/etc/straas/ca.pem", 644, &agent.ca_pem);
    put(&mut script, "/etc/straas/join-token", 600, agent.join_token.expose());
    if let Some(apt) = &agent.apt {
        script.push_str("mkdir -p -m 755 /etc/apt/keyrings /etc/apt/sources.list.d\n");
        put(&mut script, "/etc/apt/keyrings/straas.asc", 644, &apt.key_armored);
        let line =
            format!("deb [signed-by=/etc/apt/keyrings/straas.asc] {} {} {}\n", apt.url, apt.suite, apt.component);
        put(&mut script, "/etc/apt/sources.list.d/straas.list", 644, &line);
    }
    if !spec.userdata.is_empty() {
        script.push_str(spec.userdata.trim_end());
        script.push('\n');
    }
    script.push_str("if [ -d /run/systemd/system ]; then\n  systemctl enable --now straas-agent.service\n");
    script.push_str("elif ! grep -q '^sa:' /etc/inittab 2>/dev/null; then\n");
    script.push_str(&format!("  umask 022\n  echo '{INITTAB_LINE}' >> /etc/inittab\nfi\n"));
    script
}

/// Appends the lines that write one file with exactly this content (and a final newline).
fn put(script: &mut String, path: &str, mode: u32, content: &str) {
    let content = content.trim_end_matches('\n');
    let mut end = String::from("STRAAS_END");
    while content.lines().any(|line| line == end) {
        end.push('_');
    }
    script.push_str(&format!("cat > {path} <<'{end}'\n{content}\n{end}\nchmod {mode} {path}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_holds_the_end_mark_cannot_end_the_here_document() {
        let mut script = String::new();
        put(&mut script, "/x", 600, "a\nSTRAAS_END\nrm -rf /\n");
        assert!(script.starts_with("cat > /x <<'STRAAS_END_'\na\nSTRAAS_END\nrm -rf /\nSTRAAS_END_\n"), "{script}");
    }
}
