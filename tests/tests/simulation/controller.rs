//! One of several controllers: the real one between database, hosts and agents, and what it does at the moment.
//!
//! Whatever it does is a future that stops at every call of the database. To crash it is to drop
//! them all, with everything it keeps in memory.
//!
//! Never here: what is asked of it (`requests.rs`, `network.rs`), and when.

use crate::books::Shelf;
use crate::database::Database;
use crate::ground::Ground;
use crate::mutants::Mutant;
use crate::network::Answer;
use crate::turns::{Pause, Task, go_on};
use crate::zones::Cuts;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use straas_controller::BootTemplate;
use straas_controller::parts::{self, Authorities, Bell, Ca, Due, Engine, Settings, Stopper, Wake};
use straas_planner::{Plan, PlanInput, plan};
use straas_repos::{CommitId, ServiceView};
use straas_schemas::{JobId, TopologyId};
use tokio::sync::watch;

/// A host that another controller works on is tried again after so long.
const LEASE_WAIT: Duration = Duration::from_secs(1);

/// What came of something that a controller did.
pub enum Done {
    /// An agent is told this.
    Answer(u64, Answer),
    /// It has looked at a topology; when it has to again.
    Looked(TopologyId, Option<i64>),
    /// Work on a host is over, or to be tried again after this.
    Host(Box<Due>, Option<Duration>),
    /// A user was told how it went.
    Told(JobId, String),
    /// It knows what the database holds, or could not read it.
    Loaded(bool),
    Nothing,
}

/// What all controllers have in common.
#[derive(Clone)]
pub struct Site {
    pub database: Arc<Database>,
    pub ground: Ground,
    pub cuts: Cuts,
    pub shelf: Arc<Shelf>,
    /// The true time, Unix ms.
    pub now: Arc<AtomicI64>,
    pub mutant: Option<Mutant>,
}

pub struct Controller {
    /// Where it is.
    pub zone: &'static str,
    pub engine: Arc<Engine>,
    pub tasks: Vec<Task<Done>>,
    /// Work on hosts that failed, and when it is tried again.
    pub waiting: Vec<(i64, Box<Due>)>,
    /// It knows what the database holds, and answers.
    pub up: bool,
    /// What its clock says beyond the true time, in ms.
    pub skew: Arc<AtomicI64>,
    /// The database could not be read at first.
    unread: bool,
    /// When time alone makes it look at each topology again.
    look_at: BTreeMap<TopologyId, i64>,
    site: Site,
    dues: Arc<Mutex<Vec<Due>>>,
    last: Arc<Mutex<parts::Last>>,
    seen: Arc<Mutex<Option<(i64, String)>>>,
    _stopper: Stopper,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn authorities() -> Arc<Authorities> {
    static ALL: OnceLock<Arc<Authorities>> = OnceLock::new();
    Arc::clone(ALL.get_or_init(|| Arc::new(Authorities::of(Ca::make(1).expect("an authority")))))
}

impl Controller {
    /// One that starts in a zone.
    pub fn new(site: &Site, zone: &'static str, skew: i64) -> Self {
        let bell = Arc::new(Bell::default());
        let (stopper, stopping) = parts::pair();
        let skew = Arc::new(AtomicI64::new(skew));
        let (now, own) = (Arc::clone(&site.now), Arc::clone(&skew));
        let boot = BootTemplate { controllers: Vec::new(), apt: None };
        let view = ServiceView {
            head: CommitId::parse(&"0".repeat(40)).expect("a commit"),
            commit: None,
            service: Arc::default(),
            faults: Vec::new(),
        };
        let engine = Engine {
            clock: Arc::new(move || now.load(Ordering::Relaxed) + own.load(Ordering::Relaxed)),
            store: Arc::new(site.database.seen_from(zone)),
            books: site.shelf.clone(),
            authorities: authorities(),
            hosts: Arc::new(site.ground.seen_from(zone)),
            instance: "simulated".into(),
            restored: PathBuf::from("/nowhere"),
            // only whether it is the same counts
            leases: parts::Leases::of(format!("{:p}", Arc::as_ptr(&skew)), true),
            boot: watch::channel(Some(boot)).1,
            fleet: parts::Fleet::default(),
            commands: parts::Commands::default(),
            wake: Wake::new(bell.clone()),
            bell,
            beats: parts::Beats::default(),
            health: parts::Said::default(),
            held: parts::Held::default(),
            files: Vec::new(),
            settings: Settings::of(view),
            metrics: parts::Metrics::default(),
            busy: parts::Busy::default(),
            stopping,
        };
        let mut this = Self {
            zone,
            engine: Arc::new(engine),
            tasks: Vec::new(),
            waiting: Vec::new(),
            up: false,
            unread: false,
            skew,
            look_at: BTreeMap::new(),
            site: site.clone(),
            dues: Arc::default(),
            last: Arc::default(),
            seen: Arc::default(),
            _stopper: stopper,
        };
        this.load();
        this
    }

    /// What it does first.
    pub fn load(&mut self) {
        let engine = self.engine.clone();
        self.tasks.push(Box::pin(async move { Done::Loaded(engine.load().await.is_ok()) }));
    }

    /// Everything it had in memory is gone.
    pub fn crash(&mut self) {
        *self = Self::new(&self.site, self.zone, self.skew.load(Ordering::Relaxed));
    }

    /// Looks at the topology, plans, and carries the plan out: with whatever happens in between.
    pub fn look(&mut self, id: &TopologyId) {
        let (engine, dues, id, mutant) = (self.engine.clone(), self.dues.clone(), id.clone(), self.site.mutant);
        let database = self.site.database.clone();
        let pauses = database.book().pauses;
        self.tasks.push(Box::pin(async move {
            let again = Done::Looked(id.clone(), Some(engine.now_ms() + 2_000));
            let mut input = match parts::take(&engine, &id).await {
                Ok(Some(input)) => input,
                Ok(None) => return Done::Looked(id, None),
                Err(_) => return again,
            };
            mutant.inspect(|mutant| mutant.before(&mut input));
            let mut plan = plan(&input);
            mutant.inspect(|mutant| mutant.after(&input, &mut plan));
            database.check_plan(&input, &plan);
            check_plan(&input, &plan);
            if pauses {
                Pause::default().await;
            }
            let take_up = |work| locked(&dues).extend(parts::due(&engine, work));
            match parts::carry_out(&engine, &input, &plan, take_up).await {
                Ok(()) => Done::Looked(id, plan.look_again_ms),
                Err(_) => again,
            }
        }));
    }

    /// The topologies that something happened to and that it has not looked at since.
    pub fn woken(&self) -> BTreeSet<TopologyId> {
        let mut all = BTreeSet::new();
        loop {
            let engine = self.engine.clone();
            let mut taken: Task<BTreeSet<TopologyId>> = Box::pin(async move { engine.wake.take().await });
            let Some(some) = go_on(&mut taken) else { return all };
            all.extend(some);
        }
    }

    /// Whether time alone makes it look at a topology.
    pub fn is_due(&self, topology: &TopologyId) -> bool {
        self.look_at.get(topology).is_none_or(|at| *at <= self.site.now())
    }

    /// Writes the heartbeats that wait.
    pub fn beats(&mut self) {
        let (engine, last) = (self.engine.clone(), self.last.clone());
        self.tasks.push(Box::pin(async move {
            let mut known = std::mem::take(&mut *locked(&last));
            parts::write_waiting(&engine, &mut known).await;
            *locked(&last) = known;
            Done::Nothing
        }));
    }

    /// What is to be done about guest commands.
    pub fn commands(&mut self) {
        let (engine, seen) = (self.engine.clone(), self.seen.clone());
        self.tasks.push(Box::pin(async move {
            let mut known = locked(&seen).clone();
            if parts::hear(&engine, &mut known).await.is_ok() {
                *locked(&seen) = known;
            }
            let todo = engine.commands.take();
            // what cannot be written now is said again
            let _ = parts::work(&engine, todo).await;
            let _ = parts::settle(&engine).await;
            Done::Nothing
        }));
    }

    /// Compares what it knows with the database, and the hosts there are with those that should be; whoever has that chore
    /// looks at every topology, too.
    pub fn sweep(&mut self, chore: bool) {
        let engine = self.engine.clone();
        self.tasks.push(Box::pin(async move {
            if engine.sync_fleet().await.is_ok() {
                if chore {
                    let _ = engine.wake_all().await;
                }
                let _ = parts::sweep(&engine).await;
            }
            Done::Nothing
        }));
    }

    /// One of the things under way goes on by a step; what came of it.
    pub fn go_on(&mut self, at: usize) -> Done {
        let Some(done) = go_on(&mut self.tasks[at]) else { return self.take_up() };
        drop(self.tasks.swap_remove(at));
        self.take_up();
        match done {
            Done::Loaded(true) => self.up = true,
            Done::Loaded(false) => self.unread = true,
            Done::Looked(id, at) => drop(self.look_at.insert(id, at.unwrap_or(i64::MAX))),
            Done::Host(due, None) => parts::over(&self.engine, &due),
            Done::Host(due, Some(wait)) => {
                let wait = i64::try_from(wait.as_millis()).expect("short");
                self.waiting.push((self.site.now.load(Ordering::Relaxed) + wait, due));
            }
            answer => return answer,
        }
        Done::Nothing
    }

    /// Begins the work on hosts that was asked for.
    fn take_up(&mut self) -> Done {
        for due in std::mem::take(&mut *locked(&self.dues)) {
            let engine = self.engine.clone();
            self.tasks.push(Box::pin(async move {
                let Ok(Some(lease)) = engine.leases.host(&*engine.store, &due.node, engine.now_ms()).await else {
                    return Done::Host(Box::new(due), Some(LEASE_WAIT));
                };
                let wait = parts::attempt(&lease, &engine, &due).await;
                parts::end(&*engine.store, &lease).await;
                Done::Host(Box::new(due), wait)
            }));
        }
        Done::Nothing
    }

    /// Lets go of hosts whose next try is due, and tries again what could not be read.
    pub fn time_passed(&mut self) {
        if std::mem::take(&mut self.unread) {
            self.load();
        }
        let now = self.site.now.load(Ordering::Relaxed);
        let engine = &self.engine;
        self.waiting.retain(|(at, due)| {
            let over = *at <= now || due.unwanted.is_cancelled();
            if over {
                parts::over(engine, due);
            }
            !over
        });
    }
}

/// What every plan must not do.
fn check_plan(input: &PlanInput, plan: &Plan) {
    for new in &plan.assignments {
        let Some(node) = input.nodes.iter().find(|node| node.id == new.node) else { continue };
        let last = node.assignment.as_ref();
        assert_eq!(new.generation, last.map_or(0, |a| a.generation) + 1, "generations rise by one: {}", new.name);
        assert!(
            last.is_none_or(|a| a.content_digest() != new.content_digest()),
            "a generation without a change: {}",
            new.name
        );
    }
}
