//! A slow and lossy link in user space, for kernels without netem.
//!
//! ```text
//!   before:  br0 --- v11 ===== host          during:  br0 --- da11 | us | db11 --- dr11 --- v11 ===== host
//! ```
//!
//! The host's port moves to a bridge of its own; two taps join the bridges and we carry the frames,
//! late and not all of them. Taps and not packet sockets: a tap hands out frames with complete
//! checksums and of wire size. When we are told to end, the port goes straight back; when we are
//! killed, the taps vanish and the driver puts the port back.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::{Deserialize, Serialize};
use tappers::Interface;
use tappers::linux::Tap;

use super::{READY, say, task};
use crate::error::HostError;
use crate::hosts::Delay;
use crate::local::fabric::{delay_bridge, enter_netns};
use crate::local::proc::ProcessId;
use crate::local::record::write_json;
use crate::local::tools::run_with_input;

/// Largest frame on a link with the default MTU, with VLAN tags and room to spare.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// What may be under way in one direction; beyond it frames are dropped, as a router would.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Frames read from one side before the other gets its turn.
const BURST: usize = 64;

/// What `delay` needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DelayTask {
    /// The namespace's file.
    pub netns: PathBuf,
    /// The main bridge.
    pub bridge: String,
    /// The host's port on it.
    pub port: String,
    /// The host's number, which names the rest.
    pub number: u32,
    /// How slow and how lossy.
    pub delay: Delay,
    /// Where to write who we are.
    pub record: PathBuf,
}

pub(crate) fn run() -> Result<ExitCode, HostError> {
    let task: DelayTask = task()?;
    nix::unistd::setsid().map_err(HostError::io("cannot start a session"))?;
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    write_json(&task.record, &ProcessId::of(own))?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(HostError::io("cannot block signals"))?;
    let stop = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map_err(HostError::io("cannot await signals"))?;

    enter_netns(&task.netns).map_err(HostError::at("enter", &task.netns))?;
    let (near, far) = (format!("da{}", task.number), format!("db{}", task.number));
    let aside = delay_bridge(task.number);
    let taps = [tap(&near)?, tap(&far)?];
    let DelayTask { bridge, port, .. } = &task;
    ip(&format!(
        "link add {aside} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
         link set {near} up\nlink set {far} up\nlink set {aside} up\n\
         link set {near} master {bridge}\nlink set {far} master {aside}\nlink set {port} master {aside}\n"
    ))?;
    say(READY);
    let carried = carry(&taps, &stop, task.delay);
    ip(&format!("link set {port} master {bridge}\nlink del {aside}\n"))?;
    carried.map(|()| ExitCode::SUCCESS)
}

fn tap(name: &str) -> Result<Tap, HostError> {
    let what = format!("cannot make the tap {name} (is /dev/net/tun there?)");
    let make = || {
        let tap = Tap::create_named(Interface::new(name)?)?;
        tap.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(tap)
    };
    make().map_err(HostError::io(what))
}

fn ip(lines: &str) -> Result<(), HostError> {
    run_with_input("moving a delayed port", Command::new("ip").args(["-batch", "-"]), lines).map(drop)
}

/// Carries frames between the two taps until a signal comes.
fn carry(taps: &[Tap; 2], stop: &SignalFd, delay: Delay) -> Result<(), HostError> {
    let late = Duration::from_millis(u64::from(delay.ms));
    let mut dice = Dice::new();
    let mut queues = [Queue::default(), Queue::default()];
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    loop {
        let due = queues.iter().filter_map(Queue::due).min();
        let mut fds = [
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(taps[0].as_fd(), PollFlags::POLLIN),
            PollFd::new(taps[1].as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout(due)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(HostError::io("cannot await frames")(e)),
        }
        if fds[0].any().unwrap_or(false) {
            return Ok(());
        }
        let ready = [fds[1].any().unwrap_or(false), fds[2].any().unwrap_or(false)];
        for (side, queue) in queues.iter_mut().enumerate() {
            for _ in 0..BURST {
                let Some(n) = ready[side].then(|| taps[side].recv(&mut buffer).ok()).flatten() else { break };
                if !dice.lost(delay.loss_percent) {
                    queue.push(Instant::now() + late, &buffer[..n]);
                }
            }
            let now = Instant::now();
            while let Some(frame) = queue.pop(now) {
                // A full or closed tap loses the frame, like a link does.
                let _ = taps[1 - side].send(&frame);
            }
        }
    }
}

/// Until the next frame is due, rounded up so that we do not spin in its last millisecond.
fn timeout(due: Option<Instant>) -> PollTimeout {
    let Some(due) = due else { return PollTimeout::NONE };
    let left = due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

/// Frames under way in one direction; the delay is constant, so first in is first out.
#[derive(Default)]
struct Queue {
    frames: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, due: Instant, frame: &[u8]) {
        if self.bytes + frame.len() <= QUEUE_BYTES_MAX {
            self.bytes += frame.len();
            self.frames.push_back((due, frame.to_vec()));
        }
    }

    fn due(&self) -> Option<Instant> {
        self.frames.front().map(|(due, _)| *due)
    }

    fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.due()? > now {
            return None;
        }
        let (_, frame) = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

/// A small random generator (xorshift): which frame is lost needs no better one.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(now.as_nanos() as u64 | 1)
    }

    fn lost(&mut self, percent: f32) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % 100_000) as f32 / 1000.0 < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_lose_about_as_many_as_asked() {
        let mut dice = Dice::new();
        assert!((0..1000).all(|_| !dice.lost(0.0)));
        assert!((0..1000).all(|_| dice.lost(100.0)));
        let lost = (0..10_000).filter(|_| dice.lost(20.0)).count();
        assert!((1_500..2_500).contains(&lost), "{lost} of 10000");
    }

    #[test]
    fn a_queue_is_bounded_and_in_order() {
        let mut queue = Queue::default();
        let now = Instant::now();
        for i in 0..=QUEUE_BYTES_MAX / 1024 {
            queue.push(now, &vec![u8::try_from(i % 256).unwrap(); 1024]);
        }
        assert_eq!(queue.frames.len(), QUEUE_BYTES_MAX / 1024);
        assert_eq!(queue.pop(now).unwrap()[0], 0);
        assert_eq!(queue.pop(now).unwrap()[0], 1);
    }
}
