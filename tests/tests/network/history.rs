//! One history: two controllers, a user, machines as they are made, and time in steps.

use crate::dice::Dice;
use crate::faults::{Faults, LATENCY};
use crate::ground::{Ground, Told};
use crate::node::Node;
use crate::seat::Seat;
use crate::server::{Http, bare};
use crate::user::User;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use straas_store::MemoryStore;
use turmoil::{Builder, Sim};

/// One step of all programs.
const TICK: Duration = Duration::from_millis(20);
/// A history that takes longer does not end.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Segments that a connection holds: as many as a pack has.
const SEGMENTS: usize = 1 << 16;
/// As quick as can be while nobody waits for real time, and slow enough for cuts to be outlived by some and not by others.
const SETTINGS: &str =
    "[timing]\nheartbeat_ms = 2000\nsuspect_after_ms = 10000\nunreachable_after_ms = 20000\nretry_ms = 1000\n";

const CONTROLLERS: [&str; 2] = ["c0", "c1"];
pub const USER: &str = "user";

/// Tells a history; what happened, or why it may not be.
///
/// # Errors
/// What must not be, with all that happened before it.
pub fn run(seed: u64) -> Result<Told, String> {
    // real disks sync in real time, which nothing here waits for
    let base = Path::new("/dev/shm");
    let dir = if base.is_dir() { tempfile::tempdir_in(base) } else { tempfile::tempdir() }.unwrap();
    let ground = Arc::new(Ground::new(seed));
    let outcome = told(seed, dir.path(), &ground);
    let faults = std::mem::take(&mut ground.facts().faults);
    let told = ground.told();
    match outcome {
        Ok(()) if faults.is_empty() => Ok(told),
        outcome => {
            let why = outcome.err().map(|error| error.to_string()).into_iter().chain(faults);
            Err(format!("{}\n{}", told.lines.join("\n"), why.collect::<Vec<_>>().join("\n")))
        }
    }
}

fn told(seed: u64, dir: &Path, ground: &Arc<Ground>) -> turmoil::Result {
    let mut dice = Dice::of(seed, 4_000_000);
    let mut sim = Builder::new()
        .rng_seed(dice.next())
        .tick_duration(TICK)
        .simulation_duration(LONGEST)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LATENCY)
        .tcp_capacity(SEGMENTS)
        .enable_random_order()
        .build();
    for name in ["config.git", "scripts.git"] {
        bare(&dir.join("upstream"), name);
    }
    let upstream = Http::start(dir);
    let seats = seats(dir, ground, &settings(&upstream));
    seat(&mut sim, &seats[0]);
    until(&mut sim, ground, || seats[0].is_settled())?;
    seats[1].take_secrets(&seats[0]);
    seat(&mut sim, &seats[1]);
    until(&mut sim, ground, || seats[1].is_settled())?;

    sim.client(USER, User::new(seats, ground.clone(), seed).live());
    let (mut faults, began) = (Faults::new(seed), sim.elapsed());
    let mut others = vec![USER.to_owned()];
    loop {
        ground.set(sim.elapsed());
        if sim.step()? {
            return Ok(());
        }
        let (fresh, gone, wrong) = {
            let mut facts = ground.facts();
            (std::mem::take(&mut facts.fresh), std::mem::take(&mut facts.gone), !facts.faults.is_empty())
        };
        if wrong {
            return Err("it goes wrong".into());
        }
        for machine in gone {
            let name = machine.name();
            others.retain(|other| *other != name);
            sim.crash(name.as_str());
        }
        for machine in fresh {
            others.push(machine.name());
            let node = Node { dir: dir.join(machine.name()), ground: ground.clone(), machine };
            node.boot();
            sim.host(node.machine.name(), move || node.clone().run());
        }
        let now = sim.elapsed() - began;
        faults.step(&mut sim, ground, now, &CONTROLLERS, &others);
    }
}

fn settings(upstream: &Http) -> String {
    let of = |name: &str| {
        let spec = upstream.spec(name);
        let (user, password) = (spec.user.unwrap(), spec.password_file.unwrap());
        format!("url = {:?}\nuser = {user:?}\npassword_file = {password:?}\n", spec.url)
    };
    let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("components/moody");
    format!(
        "{SETTINGS}[seed]\noverlays = [{overlay:?}]\n[git]\npoll_ms = 5000\n[git.config]\n{}[git.scripts]\n{}",
        of("config.git"),
        of("scripts.git")
    )
}

fn seats(dir: &Path, ground: &Arc<Ground>, settings: &str) -> Vec<Seat> {
    let store = Arc::new(MemoryStore::new());
    let seat = |name| {
        let seat = Seat { name, dir: dir.join(name), store: store.clone(), ground: ground.clone() };
        seat.furnish(settings);
        seat
    };
    CONTROLLERS.map(seat).to_vec()
}

fn seat(sim: &mut Sim<'_>, seat: &Seat) {
    let seat = seat.clone();
    sim.host(seat.name, move || seat.clone().run());
}

fn until(sim: &mut Sim<'_>, ground: &Ground, so: impl Fn() -> bool) -> turmoil::Result {
    while !so() {
        ground.set(sim.elapsed());
        sim.step()?;
    }
    Ok(())
}
