//! Every parser of what comes from outside is fed for a while with what reaches new code in it (`tests/fuzz`).
//!
//! The engine is libFuzzer, over code that is instrumented with stable compiler flags; it is built apart from
//! everything else. `STRAAS_FUZZ_SECONDS` says how long each target runs, `STRAAS_FUZZ_TARGETS` which (names, blanks
//! between). What is found is kept below `target/fuzz/found`, what reached new code below `target/fuzz/corpus`, where
//! the next run goes on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use straas_tests::root;

/// Seconds that each target is fed, where nothing else is said.
const SECONDS: &str = "8";
/// Longest input: longer ones repeat what shorter ones do.
const BYTES_MAX: u32 = 16 << 10;
/// One input may take so many seconds; a parser is linear.
const INPUT_S_MAX: u32 = 10;
/// MiB that a target may use: what is read is bounded.
const MEMORY_MIB_MAX: u32 = 1024;
/// What libFuzzer needs of the code that it feeds.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

fn output(command: &mut Command) -> (bool, String) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (done.status.success(), text)
}

/// The engine's program; with a target of its own, so that build scripts and macros are not instrumented.
fn engine(dir: &Path) -> PathBuf {
    let (known, about) = output(Command::new("rustc").arg("-vV"));
    assert!(known, "{about}");
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--quiet", "--profile", "fuzz", "-p", "straas-fuzz", "--features", "engine"]);
    build.args(["--target", host, "--target-dir"]).arg(dir).env("RUSTFLAGS", INSTRUMENTED).current_dir(root());
    let (built, log) = output(&mut build);
    assert!(built, "the engine cannot be built (it needs g++):\n{log}");
    dir.join(host).join("fuzz/straas-fuzz")
}

fn feed(engine: &Path, dir: &Path, target: &straas_fuzz::Target, seconds: &str) -> Result<String, String> {
    let corpus = dir.join("corpus").join(target.name);
    let found = dir.join("found");
    for made in [&corpus, &found] {
        std::fs::create_dir_all(made).map_err(|error| format!("{}: {error}", made.display()))?;
    }
    // what a target writes is gone with its end, however that comes; in memory, where there is such a place
    let memory = Path::new("/dev/shm");
    let scratch = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let scratch = scratch.map_err(|error| format!("a directory for {}: {error}", target.name))?;
    let mut run = Command::new(engine);
    run.env("TMPDIR", scratch.path());
    run.current_dir(root()).env("STRAAS_FUZZ_TARGET", target.name).env("RUST_BACKTRACE", "0");
    run.arg(format!("-artifact_prefix={}/{}-", found.display(), target.name));
    run.args([format!("-max_total_time={seconds}"), format!("-max_len={BYTES_MAX}"), "-print_final_stats=1".into()]);
    run.args([format!("-timeout={INPUT_S_MAX}"), format!("-rss_limit_mb={MEMORY_MIB_MAX}"), "-verbosity=0".into()]);
    run.arg(corpus).args(target.seeds);
    let (holds, log) = output(&mut run);
    let runs = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).map(str::trim);
    if holds && let Some(runs) = runs {
        return Ok(format!("{}: {runs} inputs", target.name));
    }
    let end: Vec<&str> = log.lines().rev().take(40).collect();
    let end: Vec<&str> = end.into_iter().rev().collect();
    Err(format!(
        "{} does not hold. The input is in {}; put it into a folder of seeds, and `cargo test -p straas-fuzz` shows \
         where it fails.\n{}",
        target.name,
        found.display(),
        end.join("\n")
    ))
}

#[test]
fn every_parser_holds_for_any_bytes() {
    let seconds = std::env::var("STRAAS_FUZZ_SECONDS").unwrap_or_else(|_| SECONDS.to_owned());
    let wanted = std::env::var("STRAAS_FUZZ_TARGETS").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("fuzz");
    let engine = engine(&dir);
    let mut targets: Vec<_> = straas_fuzz::TARGETS.iter().collect();
    targets.retain(|target| wanted.is_empty() || wanted.contains(&target.name));
    assert!(!targets.is_empty(), "no target is called so: {wanted:?}");
    let (open, told) = (Mutex::new(targets), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(target) = open.lock().expect("no panic").pop() else { break };
                    let fed = feed(&engine, &dir, target, &seconds);
                    told.lock().expect("no panic").push(fed);
                }
            });
        }
    });
    let told = told.into_inner().expect("no panic");
    let faults: Vec<String> = told.iter().filter_map(|fed| fed.clone().err()).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    for held in told.into_iter().flatten() {
        #[allow(clippy::print_stdout)] // figures, for who asks with --nocapture
        {
            println!("{held}");
        }
    }
}
