//! install: the role's `install.sh` if it has one, otherwise apt and dpkg.

use super::{Job, failed};
use crate::executor::Script;
use straas_converge::RunResult;

/// Installs the packages of an assignment; its file says how.
const DEFAULT: &str = include_str!("install.sh");

pub(super) fn script(job: &Job<'_>) -> Result<Script, Box<RunResult>> {
    if let Some(program) = job.command("install.sh") {
        return Ok(job.script(program, Vec::new()));
    }
    let mut arguments = vec!["-c".into(), DEFAULT.into(), "straas-install".into()];
    for package in &job.frame.assignment.packages {
        if !is_package(&package.name, &package.version) {
            return Err(Box::new(failed(format!(
                "{:?}={:?} is not a package and a version",
                package.name, package.version
            ))));
        }
        arguments.push(format!("{}={}", package.name, package.version).into());
    }
    let mut script = job.script("/bin/sh".into(), arguments);
    script.environment.push(("STRAAS_INSTALL".into(), DEFAULT.into()));
    Ok(script)
}

/// Debian's grammar, and a trailing `*`: nothing that apt-get would take for an option.
fn is_package(name: &str, version: &str) -> bool {
    let version = version.strip_suffix('*').unwrap_or(version);
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-:~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages() {
        let check = |name, version, ok| assert_eq!(is_package(name, version), ok, "{name}={version}");
        check("zookeeper", "3.8.0-*", true);
        check("libc6", "2:1.0~rc1+b1", true);
        check("zookeeper", "*", true);
        check("-o", "1", false);
        check("a b", "1", false);
        check("a", "1*2", false);
        check("a", "$(id)", false);
    }
}
