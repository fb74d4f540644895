//! Has the agent be the build that its assignment names: fetches it, looks whether it can be run here, and lets it take
//! over once nothing runs.
//!
//! Level-triggered: each look compares what is assigned with what runs, and does the next step.
//!
//! Never here: the start of a program (`launch.rs`), what an answer of a controller means (`record.rs`).

use super::record::{Standing, Which};
use super::{REPLACEABLE, bounded, disk, launch, short};
use crate::agent::Agent;
use crate::backoff::Backoff;
use crate::files;
use crate::stages::private_dir;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use straas_schemas::build::{AgentBuild, BUILD_BYTES_MAX};
use straas_schemas::{Digest, FileRef};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a build may take to say what it is: it reads nothing and asks nobody.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Most bytes of that answer that are read; it has two lines.
const ANSWER_BYTES_MAX: u64 = 4096;
/// How a program for this kind of machine begins: ELF, of 64 bits.
const PROGRAM: [u8; 5] = [0x7f, b'E', b'L', b'F', 2];

/// Keeps on until another build takes over, or the agent ends.
pub async fn run(agent: &Agent) {
    let builds = &agent.builds;
    let mut keeper = Keeper { agent, ready: None, backoff: Backoff::default(), again: None, tidy: false };
    loop {
        keeper.look().await;
        tokio::select! {
            () = builds.moved.notified() => {}
            () = at(keeper.again) => keeper.again = None,
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

struct Keeper<'a> {
    agent: &'a Agent,
    /// The build that is on the disk and can be run here.
    ready: Option<Which>,
    backoff: Backoff,
    /// When to try again what failed.
    again: Option<Instant>,
    /// There is no file of a build that is not needed.
    tidy: bool,
}

impl Keeper<'_> {
    /// Does the next step towards what is assigned.
    async fn look(&mut self) {
        let builds = &self.agent.builds;
        let assigned =
            self.agent.look(|c, _| c.ledger().assignment.as_ref().map(|assignment| assignment.agent.clone()));
        let Some(wanted) = assigned else { return };
        let which: Which = wanted.as_ref().map(|build| build.sha256.clone());
        let next = builds.record.borrow().assigned(&which);
        builds.write(next);
        let (standing, refused) = {
            let record = builds.record.borrow();
            let refused = record.refused.as_ref().is_some_and(|refused| refused.sha256 == which);
            (record.standing.clone(), refused)
        };
        match standing {
            Standing::Settled => {}
            Standing::Trial { build, .. } if build == *builds.me() => return self.say(None),
            Standing::Trial { build, .. } => {
                // the disk did not take the count of its start
                self.say(Some(format!("{} is on trial, and its start cannot be noted; tried again", short(&build))));
                if self.again.is_none() && self.agent.is_quiet() {
                    self.again = Some(Instant::now() + self.backoff.failed());
                    launch::run(&builds.dir, None, builds.trial);
                }
                return;
            }
            Standing::Doubted { build, why } => {
                let text = format!("{} {why}; the one before it runs, to see whether there is a link", short(&build));
                return self.say(Some(text));
            }
        }
        if which == *builds.me() {
            // what was assigned meanwhile may have left a file
            if !self.tidy || self.ready.take().is_some() {
                self.tidy = true;
                let record = builds.record.borrow();
                disk::tidy(&builds.dir, &record.needed().collect::<Vec<_>>());
            }
            self.backoff.reset();
            self.again = None;
            return self.say(None);
        }
        if refused {
            return self.say(None);
        }
        if self.again.is_some() {
            return;
        }
        if self.ready.as_ref() != Some(&which) {
            self.ready = None;
            match self.bring(wanted.as_ref()).await {
                Ok(()) => self.ready = Some(which),
                Err(Trouble::Passing(why)) => {
                    self.say(Some(format!("{} is not here yet: {why}; tried again", short(&which))));
                    self.again = Some(Instant::now() + self.backoff.failed());
                    return;
                }
                Err(Trouble::Lasting(why)) => return self.refuse(which, why),
            }
            // what is assigned may be another by now
            builds.moved.notify_one();
            return;
        }
        if !self.agent.is_quiet() {
            return self.say(Some(format!("{} is ready; it waits for the end of what runs", short(&which))));
        }
        // from here to the start of the other program nothing else happens: nothing is awaited
        let own = if builds.me().is_none() { disk::exe() } else { None };
        let next = builds.record.borrow().begin(which.clone(), own);
        if !builds.write(next) {
            self.again = Some(Instant::now() + self.backoff.failed());
            return;
        }
        launch::run(&builds.dir, None, builds.trial);
        let now = disk::read(&builds.dir);
        builds.record.replace(now);
        // it was damaged since it was looked at
        self.ready = None;
        self.again = Some(Instant::now() + self.backoff.failed());
        self.say(Some(format!("{} could not be started; tried again", short(&which))));
    }

    fn say(&self, coming: Option<String>) {
        if self.agent.builds.say(coming) {
            self.agent.beat.notify_one();
        }
    }

    fn refuse(&mut self, which: Which, why: String) {
        tracing::error!(build = short(&which), why, "this build of the agent is refused");
        let builds = &self.agent.builds;
        let next = builds.record.borrow().refuse(which, why);
        if !builds.write(next) {
            self.again = Some(Instant::now() + self.backoff.failed());
        }
        builds.say(None);
        self.agent.beat.notify_one();
    }

    /// Fetches a build, if it is not here, and looks whether it can be run.
    async fn bring(&self, wanted: Option<&AgentBuild>) -> Result<(), Trouble> {
        let builds = &self.agent.builds;
        let Some(build) = wanted else {
            let path = builds.record.borrow().packaged.clone();
            return check(&path).await;
        };
        if !build.sha256.is_well_formed() {
            return Err(Trouble::Lasting(format!("{:?} is no SHA-256", build.sha256.as_str())));
        }
        if build.size > BUILD_BYTES_MAX {
            return Err(Trouble::Lasting(format!("its {} bytes are more than {BUILD_BYTES_MAX}", build.size)));
        }
        self.say(Some(format!("{} is being fetched", build.sha256.short())));
        let path = self.fetch(build).await.map_err(Trouble::Passing)?;
        check(&path).await
    }

    async fn fetch(&self, build: &AgentBuild) -> Result<PathBuf, String> {
        let Agent { builds, client, config, .. } = self.agent;
        private_dir(&builds.dir)?;
        // two at most, with this one
        let chosen = builds.record.borrow().chosen.clone();
        let kept: Vec<&Digest> = chosen.iter().chain([&build.sha256]).collect();
        disk::tidy(&builds.dir, &kept);
        let path = disk::path(&builds.dir, &build.sha256);
        let file = FileRef {
            path: path.display().to_string(),
            sha256: build.sha256.clone(),
            size: build.size,
            mode: disk::MODE,
        };
        files::put(client, &config.node, &path, &file).await.map_err(|error| error.to_string())?;
        for dir in path.ancestors().skip(1).take(2) {
            disk::sync(dir)?;
        }
        Ok(path)
    }
}

/// Why a build is not here.
enum Trouble {
    /// It may be another time.
    Passing(String),
    /// It is no good.
    Lasting(String),
}

/// Looks whether a program is an agent that can be run on this host, and replaced there.
async fn check(path: &Path) -> Result<(), Trouble> {
    let mut begin = [0; PROGRAM.len()];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.map_err(|error| Trouble::Lasting(format!("it cannot be read: {error}")))?;
    if begin != PROGRAM {
        return Err(Trouble::Lasting("it is no program for Linux (ELF, 64 bits)".to_owned()));
    }
    let answer = async {
        let mut command = Command::new(path);
        command.arg("--version").env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn()?;
        let mut said = Vec::new();
        if let Some(out) = child.stdout.take() {
            out.take(ANSWER_BYTES_MAX).read_to_end(&mut said).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, String::from_utf8_lossy(&said).into_owned()))
    };
    let answer = timeout(ANSWER_TIME, answer).await;
    let late = |_| Trouble::Lasting(format!("it does not say its version within {} s", ANSWER_TIME.as_secs()));
    let (status, said) = answer.map_err(late)?.map_err(|error| {
        let why = format!("it cannot be run on this host: {error}");
        // somebody has it open; that passes
        if error.kind() == ErrorKind::ExecutableFileBusy { Trouble::Passing(why) } else { Trouble::Lasting(why) }
    })?;
    let mut lines = said.lines();
    let is_agent = lines.next().is_some_and(|line| line.starts_with("straas-agent "));
    if !status.success() || !is_agent {
        let why = format!("asked for its version it ends with {status} and says {said:?}: no straas-agent");
        return Err(Trouble::Lasting(bounded(why)));
    }
    if !lines.any(|line| line == REPLACEABLE) {
        let why = "it is an agent from before builds could be replaced, and would be the last one here";
        return Err(Trouble::Lasting(why.to_owned()));
    }
    Ok(())
}
