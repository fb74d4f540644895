//! Figures: percentiles, and what a process uses.

use std::time::Duration;

/// The value at a fraction of sorted figures, by nearest rank.
pub fn percentile(sorted: &[Duration], fraction: f64) -> Duration {
    let rank = (sorted.len() as f64 * fraction).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

/// Median and 99th percentile in ms, in words.
pub fn told(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = |fraction| percentile(&times, fraction).as_secs_f64() * 1000.0;
    format!("p50 {:.1} ms, p99 {:.1} ms of {}", ms(0.5), ms(0.99), times.len())
}

/// What a process uses: resident bytes, and seconds of processor time since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub resident: f64,
    pub cpu_s: f64,
}

/// Reads that of a process; zeros if it is gone.
pub fn usage(pid: u32) -> Usage {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let kib = |line: &str| line.split_whitespace().nth(1)?.parse::<f64>().ok();
    let resident = read("status").lines().find(|line| line.starts_with("VmRSS:")).and_then(kib).unwrap_or_default();
    let stat = read("stat");
    // after the name, which may hold anything; user and system time are fields 14 and 15
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Usage { resident: resident * 1024.0, cpu_s: ticks / hertz as f64 }
}
