//! Who may come in: `straas login`, `token`, `tenant`, `user`.

pub mod login;
mod secret;
pub mod tenant;
pub mod token;
pub mod user;

use crate::error::CliError;
use straas_schemas::identity::Role;

/// A role by its word.
///
/// # Errors
/// In words for clap.
pub fn role(word: &str) -> Result<Role, String> {
    let known = || Role::ALL.map(Role::name).join(", ");
    Role::of(&word.replace('-', "_")).ok_or_else(|| format!("there is no such role; there are: {}", known()))
}

/// `TENANT=ROLE`, or `TENANT` for a member of it.
///
/// # Errors
/// In words for clap.
pub fn membership(word: &str) -> Result<(String, Role), String> {
    match word.split_once('=') {
        Some((tenant, word)) => Ok((tenant.to_owned(), role(word)?)),
        None => Ok((word.to_owned(), Role::Member)),
    }
}

/// Seconds of `90`, `15m`, `12h`, `30d`.
///
/// # Errors
/// In words for clap.
pub fn seconds(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u32 = digits.parse().map_err(|_| "use a number with s, m, h or d, such as 30d".to_owned())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        other => return Err(format!("{other} is no unit; there are s, m, h and d")),
    };
    number.checked_mul(unit).ok_or_else(|| "that is too long".to_owned())
}

/// Keeps a token in a file that only its owner reads.
///
/// # Errors
/// The file cannot be written.
pub fn keep(path: &std::path::Path, token: &str) -> Result<(), CliError> {
    use std::io::Write as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let fail = |error| CliError::Local(format!("cannot write {}: {error}", path.display()));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(fail)?;
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(fail)?;
    // one that was there with other permissions
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    file.write_all(token.as_bytes()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!(role("health-check"), Ok(Role::HealthCheck));
        assert_eq!(role("king"), Err("there is no such role; there are: member, operator, health_check".to_owned()));
        assert_eq!(membership("red"), Ok(("red".to_owned(), Role::Member)));
        assert_eq!(membership("red=operator"), Ok(("red".to_owned(), Role::Operator)));
        for (text, expect) in [
            ("90", Some(90)),
            ("15m", Some(900)),
            ("12h", Some(43_200)),
            ("30d", Some(2_592_000)),
            ("x", None),
            ("3w", None),
            ("99999999d", None),
        ] {
            assert_eq!(seconds(text).ok(), expect, "{text}");
        }
    }
}
