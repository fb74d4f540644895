//! Real bash scripts, well and badly behaved.

use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::path::Path;
use std::time::{Duration, Instant};
use straas_agent::executor::{End, Ended, Script, Why, run};
use straas_agent::strays::{Leaves, leftovers};
use straas_schemas::assignment::Limits;
use tokio::sync::watch;

fn script(dir: &Path, text: &str, total_s: u32, no_progress_s: u32) -> Script {
    Script {
        secrets: straas_agent::redact::Secrets::default(),
        program: "/bin/bash".into(),
        arguments: vec!["-c".into(), text.into()],
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        directory: dir.into(),
        mark: format!("{}/1", dir.file_name().unwrap().to_str().unwrap()),
        limits: Limits { total_s, no_progress_s },
        spool: dir.join("spool.log"),
        leaves: Leaves::Services,
    }
}

async fn go(dir: &Path, text: &str, total_s: u32, no_progress_s: u32) -> Ended {
    let (_keep, kill) = watch::channel(false);
    run(script(dir, text, total_s, no_progress_s), kill, &|_| ()).await
}

fn pid(dir: &Path, name: &str) -> Pid {
    Pid::from_raw(std::fs::read_to_string(dir.join(name)).unwrap().trim().parse().unwrap())
}

/// Gone, or a zombie that only waits for whoever adopted it.
fn is_gone(pid: Pid) -> bool {
    kill(pid, None).is_err()
        || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z"))
}

async fn gone(pid: Pid) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_gone(pid) {
        assert!(Instant::now() < deadline, "{pid} still runs");
        // waits for: the end of a process that is not a child of this one
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn messages_exit_codes_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let text = "echo out; echo err >&2; echo '@straas {\"facts\":{\"n\":1}}'; env | cut -d= -f1 | sort | tr '\\n' ' '; exit 75";
    let ended = go(dir.path(), text, 60, 60).await;
    assert_eq!(ended.end, End::Exited(75));
    assert_eq!(ended.said.facts["n"], 1);
    assert!(ended.tail.contains("out") && ended.tail.contains("err"));
    assert!(ended.tail.contains("PATH PWD SHLVL STRAAS_RUN STRAAS_RUN_SESSION _"), "{}", ended.tail);
    assert!(std::fs::read_to_string(dir.path().join("spool.log")).unwrap().contains("out"));
    let ended = go(dir.path(), "echo '@straas {oops'; kill -9 $$", 60, 60).await;
    assert_eq!(ended.end, End::Signalled(9));
    assert!(ended.said.fault.unwrap().contains("{oops"));
    let mut absent = script(dir.path(), "", 60, 60);
    absent.program = "/nonexistent/x".into();
    let (_keep, kill) = watch::channel(false);
    assert!(matches!(run(absent, kill, &|_| ()).await.end, End::NotStarted(_)));
}

#[tokio::test]
async fn what_a_script_leaves_in_its_group_is_killed_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let ended = go(dir.path(), "sleep 1000 & echo $! > child; echo last words", 600, 600).await;
    assert_eq!(ended.end, End::Exited(0));
    assert!(ended.tail.contains("last words"));
    gone(pid(dir.path(), "child")).await;
    assert!(begin.elapsed() < Duration::from_secs(60), "waited for an inherited pipe");
}

#[tokio::test]
async fn a_daemon_that_left_the_session_lives_on_even_with_the_pipe_open() {
    let dir = tempfile::tempdir().unwrap();
    let text = "setsid sh -c 'echo $$ > daemon; exec sleep 1000' & while ! [ -s daemon ]; do sleep 0.01; done";
    let ended = go(dir.path(), text, 60, 60).await;
    assert_eq!(ended.end, End::Exited(0));
    let daemon = pid(dir.path(), "daemon");
    assert!(!is_gone(daemon));
    assert_eq!(leftovers(dir.path().file_name().unwrap().to_str().unwrap()), 0);
    assert!(!is_gone(daemon));
    kill(daemon, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// A process that made a session of its own, with or without the script's output; the script then waits for ever, or ends.
async fn stray(start: &str, leaves: Leaves, hangs: bool) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let end = if hangs { "sleep 1000" } else { "exit 0" };
    let text = format!("{start}\nwhile ! [ -s stray ]; do sleep 0.01; done; {end}");
    let mut script = script(dir.path(), &text, if hangs { 2 } else { 60 }, 60);
    script.leaves = leaves;
    let (_keep, kill_it) = watch::channel(false);
    let ended = run(script, kill_it, &|_| ()).await;
    assert_eq!(ended.end, if hangs { End::Killed(Why::TotalTime(2)) } else { End::Exited(0) });
    let stray = pid(dir.path(), "stray");
    // whoever was killed goes soon; whoever was spared is seen to go nowhere by the look that killed the others
    let lives = !is_gone(stray) && std::fs::read_to_string(format!("/proc/{stray}/status")).is_ok_and(|s| !dies(&s));
    let _ = kill(stray, nix::sys::signal::Signal::SIGKILL);
    lives
}

/// SIGKILL is on its way: in the masks of pending signals, or it has no memory any more.
fn dies(status: &str) -> bool {
    let pending = status.lines().filter(|line| line.starts_with("SigPnd") || line.starts_with("ShdPnd"));
    let mask = |line: &str| u64::from_str_radix(line.split_whitespace().last().unwrap_or("0"), 16).unwrap_or(0);
    !status.contains("VmRSS") || pending.map(mask).any(|mask| mask & (1 << 8) != 0)
}

#[tokio::test]
async fn what_leaves_the_group_is_killed_unless_it_is_a_service() {
    let service = "setsid bash -c 'echo $$ > stray; exec sleep 1000' </dev/null >/dev/null 2>&1 &";
    let twice = "(setsid bash -c '(trap \"\" TERM; echo $BASHPID > stray; while :; do sleep 1; done) &' &)";
    let nameless = "setsid env -i /bin/bash -c 'echo $$ > stray; exec /bin/sleep 1000' &";
    let job = "set -m; bash -c 'echo $$ > stray; exec sleep 1000' & set +m";
    for (what, start, leaves, hangs, expect) in [
        ("a service", service, Leaves::Services, false, true),
        ("a service, though the script was killed", service, Leaves::Services, true, true),
        ("a service where none is to be started", service, Leaves::Nothing, false, false),
        ("forked twice, with the output of a script that was killed", twice, Leaves::Services, true, false),
        ("the same, without its environment", nameless, Leaves::Services, true, false),
        ("a job of the shell's", job, Leaves::Services, false, false),
    ] {
        assert_eq!(stray(start, leaves, hangs).await, expect, "{what}");
    }
}

#[tokio::test]
async fn limits_end_the_whole_group_even_if_sigterm_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let ended = go(dir.path(), "(trap '' TERM; echo $BASHPID > child; while :; do sleep 0.2; done) & trap '' TERM; while :; do echo x; sleep 0.2; done", 1, 60).await;
    assert_eq!(ended.end, End::Killed(Why::TotalTime(1)));
    gone(pid(dir.path(), "child")).await;
    let ended = go(dir.path(), "echo a; sleep 1000", 600, 1).await;
    assert_eq!(ended.end, End::Killed(Why::NoProgress(1)));
}

#[tokio::test]
async fn a_kill_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, kill) = watch::channel(false);
    let text = "echo '@straas {\"progress\":{\"text\":\"begun\"}}'; sleep 1000";
    let begun = |said: &straas_agent::messages::Said| {
        assert_eq!(said.progress.as_deref(), Some("begun"));
        sender.send_replace(true);
    };
    let ended = run(script(dir.path(), text, 600, 600), kill, &begun).await;
    assert_eq!(ended.end, End::Killed(Why::Asked));
}

#[tokio::test]
async fn a_flood_is_counted_and_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = peak();
    let ended =
        go(dir.path(), "yes 0123456789012345678901234567890123456789 | head -c 1073741824; echo done", 600, 600).await;
    assert_eq!((ended.end, ended.bytes), (End::Exited(0), 1_073_741_824 + 5));
    assert!(ended.tail.ends_with("done\n"));
    assert_eq!(std::fs::metadata(dir.path().join("spool.log")).unwrap().len(), 1 << 20);
    assert!(peak() < before + 64 * 1024, "{before} KiB became {} KiB", peak());
}

#[tokio::test]
async fn leftovers_of_a_dead_agent_are_found_by_their_mark() {
    let dir = tempfile::tempdir().unwrap();
    let session = nix::unistd::getsid(None).unwrap().to_string();
    let node = format!("left-{}", std::process::id());
    let mut left = std::process::Command::new("sleep");
    std::os::unix::process::CommandExt::process_group(&mut left, 0);
    let mut left = left
        .arg("1000")
        .env("STRAAS_RUN", format!("{node}/7"))
        .env("STRAAS_RUN_SESSION", session)
        .current_dir(dir.path())
        .spawn()
        .unwrap();
    assert_eq!(leftovers("another"), 0);
    assert_eq!(leftovers(&node), 1);
    assert!(!left.wait().unwrap().success());
}

#[tokio::test(flavor = "current_thread")]
async fn secrets_are_hidden_in_all_that_a_script_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "#!/bin/bash\n\
        echo 'password = open sesame'\n\
        printf 'on two writes: open '; sleep 0.1; echo sesame\n\
        echo 'to stderr: open sesame' >&2\n\
        echo '@straas {\"facts\":{\"url\":\"x://open sesame@y\"}}'\n\
        echo '@straas {\"hint\":\"is open sesame right?\"}'\n\
        echo '@straas {\"sections\":{\"db\":{\"password\":\"open sesame\"}}}'\n";
    let context =
        serde_json::json!({ "config": { "db": { "password": "open sesame" } }, "secrets": [["db", "password"]] });
    let mut script = script(dir.path(), text, 10, 10);
    script.secrets = straas_agent::redact::Secrets::of(&context);
    let spool = script.spool.clone();
    let (_kill, killed) = watch::channel(false);
    let ended = run(script, killed, &|_| {}).await;
    assert_eq!(ended.end, End::Exited(0));
    let kept = std::fs::read_to_string(spool).expect("a file");
    for text in [&ended.tail, &kept] {
        assert!(!text.contains("sesame") && text.contains("on two writes: ***\n"), "{text}");
        assert!(text.contains("password = ***") && text.contains("to stderr: ***"), "{text}");
    }
    assert_eq!(ended.said.facts["url"], "x://***@y");
    assert_eq!(ended.said.hint.as_deref(), Some("is *** right?"));
    let sections = ended.said.sections.expect("sections");
    assert_eq!(sections["db"]["password"], "open sesame", "they go to site.pp");
}
