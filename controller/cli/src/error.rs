//! The command line's face of errors: what happened, what to do next, and an exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 1 | the controller failed, or something on this machine |
//! | 2 | the command line is wrong (clap) |
//! | 3 | the thing is not there |
//! | 4 | the request is not valid |
//! | 5 | not authenticated or not allowed |
//! | 6 | the controller cannot be reached, or asks to try again later |
//! | 7 | the job did not succeed |
//!
//! `straas command run` ends with the exit code of the command itself, with 125 if it had none.

use crate::output::clean;
use std::process::ExitCode;
use straas_schemas::problem::Problem;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum CliError {
    /// The controller answered with a problem.
    Problem(Problem),
    /// The controller cannot be reached.
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// Why.
        reason: String,
        /// The connection ended after the request was sent: it may have been carried out.
        lost: bool,
    },
    /// No thing of this name.
    NotFound {
        /// What is not there.
        text: String,
        /// What shows those there are.
        hint: &'static str,
    },
    /// A job ended otherwise than in success, or did not end in time.
    Job {
        /// How it ended.
        text: String,
        /// What shows why.
        hint: Option<String>,
    },
    /// A guest command ended with this code; everything was said.
    Command(u8),
    /// What was given is not what is needed.
    Input(String),
    /// Something on this machine.
    Local(String),
}

impl CliError {
    /// Prints the error with a hint and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if let Self::Command(code) = self {
            return ExitCode::from(*code);
        }
        let (code, text, hint) = self.parts();
        anstream::eprintln!(
            "{}error:{} {}",
            anstyle::AnsiColor::Red.on_default().bold().render(),
            anstyle::Reset.render(),
            clean(&text)
        );
        if let Self::Problem(problem) = self
            && !matches!(problem.errors.as_slice(), [only] if problem.detail.contains(&only.message))
        {
            for fault in &problem.errors {
                let place = if fault.pointer.is_empty() { "the whole" } else { &fault.pointer };
                anstream::eprintln!("  {}: {}", clean(place), clean(&fault.message));
            }
        }
        if let Some(hint) = hint {
            anstream::eprintln!(
                "{}try:{}   {hint}",
                anstyle::AnsiColor::Cyan.on_default().render(),
                anstyle::Reset.render()
            );
        }
        ExitCode::from(code)
    }

    /// A job or command that did not go well, of which all is said.
    pub fn job(text: impl Into<String>) -> Self {
        Self::Job { text: text.into(), hint: None }
    }

    /// What happened, without the hint.
    pub fn text(&self) -> String {
        self.parts().1
    }

    /// Whether the same request may succeed a little later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. }) || matches!(self, Self::Problem(problem) if problem.status == 503)
    }

    fn parts(&self) -> (u8, String, Option<String>) {
        match self {
            Self::Problem(problem) => {
                let (code, hint) = match problem.status {
                    401 => {
                        (5, Some("straas login, or name the file with your token: --token-file, or STRAAS_TOKEN_FILE"))
                    }
                    403 => (5, Some("straas token who   (it says which tenant and role your token is for)")),
                    404 if problem.detail.contains("tenant") => (3, Some("straas tenant list")),
                    404 if problem.detail.contains("user") => (3, Some("straas user list")),
                    404 if problem.detail.contains("token") => (3, Some("straas token list --all-tenants")),
                    404 if problem.detail.contains("job") => (3, Some("straas job list")),
                    404 if problem.detail.contains("component") => (3, Some("straas component list TOPOLOGY")),
                    404 if problem.detail.contains("tag") => (3, Some("straas config tag list TOPOLOGY")),
                    404 if problem.detail.contains("file") => (3, Some("straas config ls TOPOLOGY")),
                    404 if problem.detail.contains("guest command") => (3, Some("straas guestcmd list")),
                    404 if problem.detail.contains("command") => (3, Some("straas command list")),
                    404 if problem.detail.contains("node") => (3, Some("straas node list")),
                    404 => (3, Some("straas topology list")),
                    412 => (
                        4,
                        Some(
                            "look at what is there now, then give the command again (straas etag: what --if-match takes)",
                        ),
                    ),
                    409 if problem.detail.contains("?with=") => {
                        (4, Some("straas node remove NODE NODE   (they leave together)"))
                    }
                    400 | 409 | 422 => (4, None),
                    503 => (6, Some("the same command again in a few seconds; nothing was changed")),
                    _ => (1, Some("the controller's log, which says more")),
                };
                (code, format!("{} ({}): {}", problem.title, problem.status, problem.detail), hint.map(str::to_owned))
            }
            Self::Unreachable { endpoint, reason, lost: true } => {
                let hint = "see what is there now before you ask again: it may have been done";
                (6, format!("the answer of {endpoint} was lost: {reason}"), Some(hint.to_owned()))
            }
            Self::Unreachable { endpoint, reason, lost: false } => {
                let hint = "straas dev up   (a controller on this machine), or name another one with --endpoint";
                (6, format!("no controller answers at {endpoint}: {reason}"), Some(hint.to_owned()))
            }
            Self::NotFound { text, hint } => (3, text.clone(), Some((*hint).to_owned())),
            Self::Job { text, hint } => (7, text.clone(), hint.clone()),
            Self::Command(code) => (*code, String::new(), None),
            Self::Input(text) => (4, text.clone(), None),
            Self::Local(text) => (1, text.clone(), None),
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Local(error.to_string())
    }
}
