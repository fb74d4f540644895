//! The agent as a whole: holds the converger and the ledger, and does the actions in order.
//!
//! Everything runs on one thread, so a step and its actions are never interleaved with another's.
//! An action that cannot be done because the disk does not take it stops the queue: nothing that
//! relies on it happens before it is durable, nobody is told of it, and nothing new is asked for.
//! It is tried again until the disk takes it. Only if what was durable is gone does the agent end;
//! its supervisor starts it from what the disk does hold.
//!
//! Never here: decisions (`converge`), requests (`poll.rs`, `reporter.rs`, `beat.rs`).

use crate::builds::{self, Builds};
use crate::client::Client;
use crate::commands::live::{self, Live};
use crate::config::Config;
use crate::ledger::{self, Damaged, LedgerError, LedgerFile};
use crate::scripts::Scripts;
use crate::world::{Clock, World};
use crate::{beat, commands, enrol, executor, keys, metrics, poll, reporter, strays, trust, vitals, work};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use straas_converge::{Action, Boot, CommandRun, Converger, Event, Ledger, Now, RunId, RunOrder};
use straas_schemas::FileRef;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Identity and TLS.
    #[error(transparent)]
    Enrol(#[from] enrol::EnrolError),
    /// Something of the operating system.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Work that takes time; done by `work.rs`.
#[derive(Debug)]
pub enum Order {
    /// Start this.
    Run(RunOrder),
    /// Start this guest command.
    Begin(Box<CommandRun>),
    /// End this, of either kind.
    Kill(RunId),
    /// Fetch and activate.
    Fetch {
        /// Which fetch.
        fetch: u64,
        /// Commit.
        scripts: String,
        /// Files.
        files: Vec<FileRef>,
        /// Addresses by name.
        hosts: BTreeMap<String, String>,
    },
}

/// What the agent orders to be done.
pub type Orders = mpsc::UnboundedReceiver<Order>;

/// What all parts of the agent share.
pub struct Agent {
    /// The configuration.
    pub config: Config,
    /// The controllers.
    pub client: Client,
    /// Who this node is.
    pub identity: RefCell<keys::Identity>,
    /// The scripts.
    pub scripts: Scripts,
    /// The builds of the agent on this host.
    pub builds: Builds,
    /// Samples of the host.
    pub sampler: RefCell<vitals::Sampler>,
    /// Output of guest commands on its way to the controller.
    pub live: Live,
    /// Newest progress of the running script.
    pub progress: RefCell<Option<(String, Option<u8>)>>,
    /// There are new reports.
    pub send: Notify,
    /// A heartbeat is due now.
    pub beat: Notify,
    /// A request got through after others had not: whoever backs off may try at once.
    pub linked: Notify,
    /// The certificate is to be renewed.
    pub renew: Notify,
    /// Controllers refuse the certificate: another one is asked for without it.
    pub rejected: Cell<bool>,
    /// When a tick is wanted, in `mono_ms`.
    pub wake: watch::Sender<Option<i64>>,
    converger: RefCell<Converger>,
    ledger: RefCell<LedgerFile>,
    pending: RefCell<VecDeque<Action>>,
    /// Whether the ledger refuses writes, with something waiting for it.
    pub stalled: watch::Sender<bool>,
    /// Why it took none last, and what to do.
    fault: RefCell<Option<String>>,
    /// What was durable is gone.
    gone: RefCell<Option<LedgerError>>,
    orders: mpsc::UnboundedSender<Order>,
    start: Instant,
    /// The way to controllers, and the time.
    pub world: World,
    _lock: ledger::StateLock,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or the ledger fails for good.
pub async fn run(config: Config) -> Result<(), AgentError> {
    let stop = stop_signal()?;
    let mut stopped = stop.clone();
    tokio::select! {
        result = run_until(config, World::real(), stop) => result,
        // before the parts run that know how to stop, there is nothing to stop
        () = late_stop(&mut stopped) => Ok(()),
    }
}

/// Runs until SIGTERM or SIGINT, or until standard input ends: whoever started it has ended, or wants it to.
///
/// # Errors
/// As [`run`].
pub async fn run_until_stdin_ends(config: Config) -> Result<(), AgentError> {
    let mut signalled = stop_signal()?;
    let (sender, stop) = watch::channel(false);
    tokio::task::spawn_local(async move {
        let ended = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        tokio::select! {
            _ = ended => {}
            _ = signalled.wait_for(|stop| *stop) => {}
        }
        let _ = sender.send(true);
        std::future::pending::<()>().await;
    });
    let mut stopped = stop.clone();
    tokio::select! {
        result = run_until(config, World::real(), stop) => result,
        () = late_stop(&mut stopped) => Ok(()),
    }
}

/// Runs until `stop` turns true; then ends the running script and itself.
///
/// # Errors
/// When it cannot start, or the ledger fails for good.
pub async fn run_until(config: Config, world: World, stop: watch::Receiver<bool>) -> Result<(), AgentError> {
    // without one the host starts the agent anew, which then sees what there is
    let Some((agent, inbox)) = Box::pin(open(config, world)).await? else { return Ok(()) };
    if !agent.config.metrics_listen.is_empty() {
        let served = metrics::serve(&agent).await;
        let what = || format!("metrics_listen {}", agent.config.metrics_listen);
        served.map_err(|source| AgentError::Io { what: what(), source })?;
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let result = tokio::select! {
        result = Box::pin(work::run(&agent, inbox, stop)) => result,
        () = talk(&agent) => Ok(()),
        () = Box::pin(builds::keep::run(&agent)) => Ok(()),
        () = agent.builds.overdue(agent.start) => Ok(()),
    };
    tracing::info!("ends");
    result
}

/// An agent as its disk has it, enrolled, with what it orders to be done; none if this build of it was on trial for too
/// long.
///
/// # Errors
/// When it cannot start.
pub async fn open(config: Config, world: World) -> Result<Option<(Rc<Agent>, Orders)>, AgentError> {
    let io = |what: String| move |source| AgentError::Io { what, source };
    let start = Instant::now();
    ledger::make_dir(&config.state_dir).map_err(io(format!("{} cannot be made", config.state_dir.display())))?;
    let lock = ledger::lock(&config.state_dir)?;
    let builds = Builds::open(&config.state_dir, Duration::from_secs(config.build_trial_s.into()));
    // a build on trial that cannot read what the one before wrote is at fault, not the ledger
    let judge = if builds.on_trial() { Damaged::Refuse } else { Damaged::SetAside };
    let (file, ledger, mut ledger_lost) = tokio::select! {
        opened = Box::pin(opened(&config, judge)) => opened?,
        () = builds.overdue(start) => return Ok(None),
    };
    if ledger.head.epoch == 0 && enrol::is_enrolled(&config) {
        // a crash between setting a ledger aside and the first write to the new one
        ledger_lost.get_or_insert_with(|| "it is empty, although this node enrolled before".to_owned());
    }
    let leftovers = strays::leftovers(config.node.as_str());
    let ca_pem = trust::load(&config.state_dir.join("tls"), &config.ca_file)
        .map_err(io(format!("the CA file {} cannot be read", config.ca_file.display())))?;
    let (identity, client) = tokio::select! {
        found = enrol::identify(&config, world.dialer.clone(), ca_pem) => found?,
        () = builds.overdue(start) => return Ok(None),
    };
    let scripts = Scripts::at(config.state_dir.join("scripts"));
    let boot = Boot {
        node: config.node.clone(),
        boot_id: vitals::boot_id(),
        scripts: scripts.current().is_some(),
        ledger_lost,
        up_ms: (world.clock.up_ms)(),
    };
    tracing::info!(node = %config.node, incarnation = identity.incarnation, generation = ledger.generation(), leftovers,
        boot = boot.boot_id, build = straas_schemas::build::name(builds.me().as_ref()), trial = builds.on_trial(), version = env!("CARGO_PKG_VERSION"), "starts");
    let (converger, first) = Converger::resume(ledger, boot, now(start, &world.clock));
    let live = Live::resume(commands::dir(&config.state_dir), &converger.ledger().commands);
    let (orders, inbox) = mpsc::unbounded_channel();
    let agent = Rc::new(Agent {
        client,
        identity: RefCell::new(identity),
        scripts,
        builds,
        sampler: RefCell::new(vitals::Sampler::new()),
        live,
        progress: RefCell::new(None),
        send: Notify::new(),
        beat: Notify::new(),
        linked: Notify::new(),
        renew: Notify::new(),
        rejected: Cell::new(false),
        wake: watch::Sender::new(None),
        converger: RefCell::new(converger),
        ledger: RefCell::new(file),
        pending: RefCell::new(first.into()),
        stalled: watch::Sender::new(false),
        fault: RefCell::new(None),
        gone: RefCell::new(None),
        orders,
        start,
        world,
        _lock: lock,
        config,
    });
    agent.work_off();
    Ok(Some((agent, inbox)))
}

/// All that is said to controllers, for ever: polls, reports, heartbeats, output of commands, renewals.
pub async fn talk(agent: &Agent) {
    tokio::select! {
        () = poll::run(agent) => {}
        () = reporter::run(agent) => {}
        () = beat::run(agent) => {}
        () = Box::pin(live::run(agent)) => {}
        () = enrol::keep_renewed(agent) => {}
    }
}

/// The ledger, as soon as the disk lets it be opened.
async fn opened(config: &Config, judge: Damaged) -> Result<(LedgerFile, Ledger, Option<String>), LedgerError> {
    let mut said = String::new();
    loop {
        match LedgerFile::open(&config.state_dir.join("ledger"), judge) {
            Err(error) if !error.is_damage() => {
                let advice = error.advice(&config.state_dir);
                if advice != said {
                    tracing::error!(error = error.whole(), "the ledger cannot be opened; waiting: {advice}");
                    said = advice;
                }
                tokio::time::sleep(work::STALL_RETRY).await;
            }
            opened => return opened,
        }
    }
}

impl Agent {
    /// Gives an event to the converger and does what it says.
    pub fn handle(&self, event: Event) {
        let actions = self.converger.borrow_mut().step(self.now(), event);
        self.pending.borrow_mut().extend(actions);
        self.work_off();
        self.builds.moved.notify_one();
    }

    /// Whether nothing runs that the end of this program would cut short, and all that was decided is durable.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.is_stalled() && self.pending.borrow().is_empty() && self.converger.borrow().is_quiet()
    }

    /// A controller answered to a poll.
    pub fn answered(&self) {
        if self.builds.answered(self.start.elapsed()) {
            self.builds.moved.notify_one();
            self.beat.notify_one();
        }
    }

    /// Does the actions that wait, in order, as far as the disk lets it.
    pub fn work_off(&self) {
        while let Some(action) = self.pop() {
            match action {
                Action::Persist(changes) => {
                    let written = self.ledger.borrow_mut().persist(&changes);
                    if !self.noted(written) {
                        self.pending.borrow_mut().push_front(Action::Persist(changes));
                        self.stalled.send_if_modified(|stalled| !std::mem::replace(stalled, true));
                        return;
                    }
                    self.stalled.send_if_modified(|stalled| std::mem::replace(stalled, false));
                }
                Action::Fetch { fetch, scripts, files, hosts } => {
                    self.order(Order::Fetch { fetch, scripts, files, hosts });
                }
                Action::Run(order) => self.order(Order::Run(order)),
                Action::Begin(run) if self.converger.borrow().may_begin(self.now(), &run) => {
                    self.order(Order::Begin(run));
                }
                Action::Begin(run) => {
                    let result = Box::new(commands::late());
                    self.handle(Event::Ended { run: run.id, command: run.order.id.clone(), result });
                }
                Action::Kill { run } => self.order(Order::Kill(run)),
                Action::Send => self.send.notify_one(),
                Action::Beat => self.beat.notify_one(),
                Action::WakeAt(at) => {
                    self.wake.send_replace(Some(at));
                }
            }
        }
    }

    fn pop(&self) -> Option<Action> {
        self.pending.borrow_mut().pop_front()
    }

    fn order(&self, order: Order) {
        // the receiver lives as long as the agent runs
        let _ = self.orders.send(order);
    }

    /// Looks into the converger; the ledger may be behind it only while [`Agent::is_stalled`].
    pub fn look<T>(&self, look: impl FnOnce(&mut Converger, Now) -> T) -> T {
        look(&mut self.converger.borrow_mut(), self.now())
    }

    /// Whether the ledger refuses writes, with something waiting for it.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        *self.stalled.borrow()
    }

    /// Whether the ledger took its last write.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.fault.borrow().is_none()
    }

    /// Returns when nothing waits for the ledger.
    pub async fn unstalled(&self) {
        // the sender lives as long as the agent
        let _ = self.stalled.subscribe().wait_for(|stalled| !stalled).await;
    }

    /// What the disk had durable and has no more, if that was seen.
    pub fn gone(&self) -> Option<LedgerError> {
        self.gone.take()
    }

    /// Why the ledger does not take a write and a sync now.
    #[must_use]
    pub fn probe(&self) -> Option<String> {
        if !self.is_stalled() {
            let written = self.ledger.borrow_mut().probe();
            self.noted(written);
        }
        self.fault.borrow().clone()
    }

    /// Keeps what came of a write, and says it where it is another than before; whether it was taken.
    fn noted(&self, written: Result<(), LedgerError>) -> bool {
        let mut fault = self.fault.borrow_mut();
        match written {
            Ok(()) => {
                if fault.take().is_some() {
                    tracing::info!("the ledger takes writes again");
                }
                true
            }
            Err(error) => {
                let advice = error.advice(&self.config.state_dir);
                if fault.as_ref() != Some(&advice) {
                    tracing::error!(error = error.whole(), "nothing goes on before it is written down: {advice}");
                    *fault = Some(advice);
                    self.beat.notify_one();
                }
                if error.is_damage() {
                    self.gone.replace(Some(error));
                    self.stalled.send_replace(true);
                }
                false
            }
        }
    }

    /// When the agent started; the zero of `mono_ms`.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.start
    }

    /// The API path of this node.
    #[must_use]
    pub fn path(&self, what: &str) -> String {
        format!("/agent/v1/nodes/{}/{what}", self.config.node)
    }

    fn now(&self) -> Now {
        now(self.start, &self.world.clock)
    }
}

fn now(start: Instant, clock: &Clock) -> Now {
    Now { mono_ms: i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX), unix_ms: (clock.unix_ms)() }
}

/// Unix milliseconds by this host's clock.
#[must_use]
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Turns true at SIGTERM and SIGINT.
///
/// # Errors
/// Signals cannot be received.
pub(crate) fn stop_signal() -> Result<watch::Receiver<bool>, AgentError> {
    let io = |source| AgentError::Io { what: "signals cannot be received".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    let (sender, stop) = watch::channel(false);
    tokio::task::spawn_local(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let _ = sender.send(true);
        // the sender must outlive everyone who waits
        std::future::pending::<()>().await;
    });
    Ok(stop)
}

/// Well after a stop was asked for: long enough for a script to be killed with grace.
async fn late_stop(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(executor::KILL_GRACE * 3).await;
}
