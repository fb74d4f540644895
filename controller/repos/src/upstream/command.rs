//! Runs the `git` program against an upstream: bounded in time and size, without prompts, and without
//! a secret where others can see it.
//!
//! ```text
//!  prlimit ── git ── git-remote-https ── (helper reads the password file)      one process group
//!                 └─ ssh -i key                                                that is ended as a whole
//! ```
//! The environment is ours alone: neither the machine's nor a user's configuration of git or ssh has a
//! say. Passwords pass from their file to git through a pipe; what git says is cut and cleansed before
//! anybody sees it. Decides nothing: which refs move, and when, is its callers' matter.

use super::spec::{SECRET_BYTES_MAX, UpstreamSpec};
use crate::error::{Doing, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where programs are looked for.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most bytes of one file that git may write: a pack of either repository, with all its history, is
/// far below; a mistaken push of disk images is not.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Most bytes of a listing of refs: 100,000 branches.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// Of what git says, so much is told: its last words name the cause.
const WORDS_BYTES_MAX: usize = 400;
/// A process group that was told to end gets so long: git removes its lock files then.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Pause between two looks whether git has ended.
const LOOK: Duration = Duration::from_millis(3);
/// Answers git's question for a password with what stands in a file.
const HELPER: &str = r#"!f() { test "$1" = get || exit 0; printf 'username=%s\npassword=%s\n' "$STRAAS_GIT_USER" "$(head -n 1 "$STRAAS_GIT_PASSWORD_FILE")"; }; f"#;

/// How a run of git ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// It did what it was told.
    pub(super) fine: bool,
    /// What it printed.
    pub(super) output: String,
    /// What it said, cleansed; not empty if it is not fine.
    pub(super) words: String,
    /// It had to be killed, so it may have left lock files.
    pub(super) killed: bool,
}

/// Runs git in the folder `dir`.
pub(super) fn run(spec: &UpstreamSpec, dir: &Path, args: &[&str], input: &str) -> Result<Ended> {
    let doing = || "starting the program git";
    let mut command = Command::new("prlimit");
    command.arg(format!("--fsize={FILE_BYTES_MAX}")).args(["--core=0", "git"]).args(args);
    command.current_dir(dir).env_clear().envs(environment(spec));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().doing(doing)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let output = scope.spawn(|| kept(stdout, OUTPUT_BYTES_MAX));
        let words = scope.spawn(|| kept(stderr, OUTPUT_BYTES_MAX));
        // a child that ends early reads no further
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let (ended, killed) = wait(&mut child, spec.timeout);
        let (output, cut) = output.join().unwrap_or_default();
        let (words, _) = words.join().unwrap_or_default();
        let fine = ended.is_some_and(|status| status.success()) && !cut;
        let mut words = cleansed(spec, &String::from_utf8_lossy(&words));
        if ended.is_none() {
            words = format!("no answer within {} s {words}", spec.timeout.as_secs());
        } else if cut {
            words = format!("more than {OUTPUT_BYTES_MAX} bytes of refs");
        } else if !fine && words.trim().is_empty() {
            words = format!("git ended with {}", ended.map_or_else(String::new, |status| status.to_string()));
        }
        let output = String::from_utf8_lossy(&output).into_owned();
        Ok(Ended { fine, output, words: words.trim().to_owned(), killed })
    })
}

/// Waits for the end, which comes: how it ended unless it had to be ended, and whether it was killed.
fn wait(child: &mut Child, patience: Duration) -> (Option<std::process::ExitStatus>, bool) {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let ended = by(child, Instant::now() + patience);
    let mut killed = false;
    if ended.is_none() {
        let _ = killpg(group, Signal::SIGTERM);
        killed = by(child, Instant::now() + LAST_WORDS).is_none();
        // whatever of the group is left holds our pipes
        let _ = killpg(group, Signal::SIGKILL);
    }
    if killed {
        let _ = child.wait();
    }
    (ended, killed)
}

fn by(child: &mut Child, deadline: Instant) -> Option<std::process::ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// What comes, up to a bound, and whether there was more; reads to the end all the same.
fn kept(pipe: Option<impl Read>, bytes_max: u64) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let Some(mut pipe) = pipe else { return (out, false) };
    let _ = (&mut pipe).take(bytes_max).read_to_end(&mut out);
    let more = std::io::copy(&mut pipe, &mut std::io::sink()).unwrap_or_default();
    (out, more > 0)
}

fn environment(spec: &UpstreamSpec) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = [
        ("PATH", PATH),
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ALLOW_PROTOCOL", "https:http:ssh"),
        ("GIT_DIR", "."),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let slow_s = spec.timeout.as_secs().max(1).to_string();
    let mut config = vec![
        ("credential.helper", ""),
        ("http.sslVerify", "true"),
        // a redirect could send the password elsewhere
        ("http.followRedirects", "false"),
        ("http.lowSpeedLimit", "100"),
        ("http.lowSpeedTime", &slow_s),
        ("core.hooksPath", "/dev/null"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        ("fetch.fsckObjects", "true"),
        // a pack is there as a whole or not at all; loose objects are not
        ("fetch.unpackLimit", "1"),
        ("push.followTags", "false"),
    ];
    let ca = spec.ca_file.as_ref().map(|file| file.display().to_string());
    // the environment has none: whether there is a proxy is told here alone
    if let Some(proxy) = &spec.proxy {
        config.push(("http.proxy", proxy));
    }
    if let Some(ca) = &ca {
        config.push(("http.sslCAInfo", ca));
    }
    if let (Some(user), Some(file)) = (&spec.user, &spec.password_file) {
        config.push(("credential.helper", HELPER));
        out.push(("STRAAS_GIT_USER".into(), user.clone()));
        out.push(("STRAAS_GIT_PASSWORD_FILE".into(), file.display().to_string()));
    }
    if let (Some(key), Some(known)) = (&spec.key_file, &spec.known_hosts_file) {
        let mut ssh = format!("ssh -F /dev/null -i {} -o UserKnownHostsFile={}", key.display(), known.display());
        for option in [
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "ClearAllForwardings=yes",
            "ControlMaster=no",
            "LogLevel=ERROR",
        ] {
            let _ = write!(ssh, " -o {option}");
        }
        let _ = write!(ssh, " -o ConnectTimeout={slow_s} -o ServerAliveInterval=5");
        out.push(("GIT_SSH_COMMAND".into(), ssh));
        out.push(("GIT_SSH_VARIANT".into(), "ssh".into()));
    }
    out.push(("GIT_CONFIG_COUNT".into(), config.len().to_string()));
    for (n, (key, value)) in config.into_iter().enumerate() {
        out.push((format!("GIT_CONFIG_KEY_{n}"), key.to_owned()));
        out.push((format!("GIT_CONFIG_VALUE_{n}"), value.to_owned()));
    }
    out
}

/// The last of what git said, in one line, without what is in the password file.
fn cleansed(spec: &UpstreamSpec, words: &str) -> String {
    let mut words = words.to_owned();
    let secret = spec.password_file.as_ref().and_then(|file| {
        let mut text = String::new();
        std::fs::File::open(file).ok()?.take(SECRET_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text.lines().next()?.to_owned())
    });
    if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
        words = words.replace(&secret, "***");
    }
    let lines = words.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut from = line.len().saturating_sub(WORDS_BYTES_MAX);
    while !line.is_char_boundary(from) {
        from += 1;
    }
    line[from..].to_owned()
}
