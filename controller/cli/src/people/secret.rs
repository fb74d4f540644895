//! A password from a person or a program: never from the command line, which others can read.

use crate::error::CliError;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

/// Asks for a password on the terminal, without showing it; or takes the first line of the file, `-`
/// for what is piped in.
pub fn password(prompt: &str, file: Option<&Path>) -> Result<String, CliError> {
    let line = match file {
        Some(path) if path != Path::new("-") => {
            let text = std::fs::read_to_string(path);
            text.map_err(|error| CliError::Local(format!("cannot read {}: {error}", path.display())))?
        }
        Some(_) => piped()?,
        None if std::io::stdin().is_terminal() => asked(prompt)?,
        None => piped()?,
    };
    let password = line.lines().next().unwrap_or_default().to_owned();
    if password.is_empty() {
        return Err(CliError::Local("the password is empty; nothing was done".to_owned()));
    }
    Ok(password)
}

fn piped() -> Result<String, CliError> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

fn asked(prompt: &str) -> Result<String, CliError> {
    let stdin = std::io::stdin();
    let fail = |error: nix::Error| CliError::Local(format!("the terminal does not hide what is typed: {error}"));
    let shown = tcgetattr(&stdin).map_err(fail)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    anstream::eprint!("{prompt}: ");
    std::io::stderr().flush()?;
    tcsetattr(&stdin, SetArg::TCSADRAIN, &hidden).map_err(fail)?;
    let line = piped();
    tcsetattr(&stdin, SetArg::TCSADRAIN, &shown).map_err(fail)?;
    anstream::eprintln!();
    line
}
