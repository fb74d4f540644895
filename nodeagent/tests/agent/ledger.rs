//! The ledger on a real disk: what survives, what is set aside, who is kept out.

use straas_agent::ledger::{Damaged, LedgerError, LedgerFile, lock};
use straas_converge::{Head, LedgerChange};
use straas_schemas::report::{Report, ReportBody};

fn report(seq: u64) -> LedgerChange {
    LedgerChange::Append(Box::new(Report { seq, at_ms: 0, body: ReportBody::Converged { generation: seq } }))
}

fn head(last_seq: u64) -> LedgerChange {
    LedgerChange::Head(Head { last_seq, boot_id: "b".into(), ..Head::default() })
}

/// Child process of the test below: writes without end, saying each number once it is durable.
#[test]
fn writer() {
    let Ok(dir) = std::env::var("STRAAS_TEST_LEDGER") else { return };
    let (mut file, ledger, _) = LedgerFile::open(dir.as_ref(), Damaged::SetAside).unwrap();
    for seq in ledger.head.last_seq + 1.. {
        file.persist(&[head(seq), report(seq), LedgerChange::Forget(seq.saturating_sub(20))]).unwrap();
        std::fs::write(format!("{dir}.ack"), seq.to_string()).unwrap();
    }
}

#[test]
fn killed_between_writes_nothing_acknowledged_is_lost_and_nothing_is_half() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ack = format!("{}.ack", path.display());
    let acknowledged = || std::fs::read_to_string(&ack).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    for _ in 0..5 {
        let before = acknowledged();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::writer", "--nocapture"])
            .env("STRAAS_TEST_LEDGER", &path)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while acknowledged() < before + 40 {
            assert!(std::time::Instant::now() < deadline, "the writer does not write");
            // waits for: what another process has written to a file
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, ledger, lost) = LedgerFile::open(&path, Damaged::SetAside).unwrap();
        assert_eq!(lost, None);
        assert!(ledger.head.last_seq >= acknowledged(), "{} was acknowledged", acknowledged());
        let last = ledger.head.last_seq;
        let outbox: Vec<u64> = ledger.outbox.keys().copied().collect();
        assert_eq!(outbox, (last.saturating_sub(20) + 1..=last).collect::<Vec<_>>(), "a batch is whole or not there");
    }
}

/// Child process of the test below: writes until files may grow no more, and goes on once they may.
#[test]
fn hampered() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok(dir) = std::env::var("STRAAS_TEST_HAMPERED") else { return };
    // the signal that would end the process is ignored by who starts it
    let (mut file, ..) = LedgerFile::open(dir.as_ref(), Damaged::SetAside).unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let size = std::fs::metadata(std::path::Path::new(&dir).join("db")).unwrap().len();
    setrlimit(Resource::RLIMIT_FSIZE, size + 4096, hard).unwrap();
    let mut seq = 0;
    let refused = loop {
        seq += 1;
        if let Err(error) = file.persist(&[head(seq), report(seq)]) {
            break error;
        }
        assert!(seq < 1_000_000, "nothing stops it");
    };
    assert!(!refused.is_damage(), "{refused:?}");
    for _ in 0..3 {
        assert!(file.persist(&[head(seq), report(seq)]).is_err() && file.probe().is_err());
    }
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    file.persist(&[head(seq), report(seq)]).unwrap();
    file.probe().unwrap();
    drop(file);
    let (_, ledger, lost) = LedgerFile::open(dir.as_ref(), Damaged::SetAside).unwrap();
    assert_eq!((lost, ledger.head.last_seq), (None, seq));
    assert_eq!(ledger.outbox.keys().copied().collect::<Vec<_>>(), (1..=seq).collect::<Vec<_>>());
    std::fs::write(format!("{dir}.seen"), refused.whole()).unwrap();
}

#[test]
fn a_disk_that_took_no_write_is_gone_on_with_by_the_same_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let exe = std::env::current_exe().unwrap();
    let script = format!("trap '' XFSZ; exec {} --exact ledger::hampered --nocapture", exe.display());
    let output =
        std::process::Command::new("sh").args(["-c", &script]).env("STRAAS_TEST_HAMPERED", &path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read_to_string(format!("{}.seen", path.display())).is_ok_and(|text| !text.is_empty()));
}

/// Every page of the database in turn is zeroed. Damage is seen and named, or it hit nothing that is
/// in use; a ledger that silently went back would give old numbers to new reports.
#[test]
fn a_damaged_ledger_is_set_aside_and_named() {
    const PAGE: usize = 4096;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let (mut file, ..) = LedgerFile::open(&path, Damaged::SetAside).unwrap();
    (1..200).for_each(|seq| file.persist(&[head(seq), report(seq)]).unwrap());
    drop(file);
    let db = path.join("db");
    let (whole, conf) = (std::fs::read(&db).unwrap(), std::fs::read(path.join("conf")).unwrap());
    let witness = path.with_extension("witness");
    let witnessed = std::fs::read(&witness).unwrap();
    let (_, before, _) = LedgerFile::open(&path, Damaged::SetAside).unwrap();
    let (mut seen, mut unused) = (0, 0);
    for page in 0..whole.len().div_ceil(PAGE) {
        let (from, to) = (page * PAGE, ((page + 1) * PAGE).min(whole.len()));
        if whole[from..to].iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[from..to].fill(0);
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(&db, bytes).unwrap();
        std::fs::write(path.join("conf"), &conf).unwrap();
        std::fs::write(&witness, &witnessed).unwrap();
        let (mut file, ledger, lost) = LedgerFile::open(&path, Damaged::SetAside).unwrap();
        match lost {
            Some(_) => {
                assert_eq!(ledger, straas_converge::Ledger::default());
                seen += 1;
            }
            None => {
                assert_eq!(ledger, before, "page {page}: the ledger went back and nobody saw it");
                unused += 1;
            }
        }
        file.persist(&[head(1)]).unwrap();
        file.probe().unwrap();
    }
    eprintln!("pages: {seen} seen, {unused} not in use");
    assert!(seen > 0);
    std::fs::remove_dir_all(&path).unwrap();
    let refused = LedgerFile::open(&path, Damaged::Refuse);
    assert!(matches!(refused, Err(LedgerError::WentBack { .. })), "{refused:?}");
    assert!(LedgerFile::open(&path, Damaged::SetAside).unwrap().2.is_some(), "a ledger that vanished is a lost one");
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let aside = std::fs::read_dir(dir.path()).unwrap().flatten().map(name).filter(|name| name.contains("bad-"));
    assert!((1..=2).contains(&aside.count()), "damaged ledgers are kept, but not for ever");
}

#[test]
fn a_snapshot_that_was_not_finished_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    for bytes in [&b""[..], &[7; 1000]] {
        let (mut file, before, _) = LedgerFile::open(&path, Damaged::SetAside).unwrap();
        file.persist(&[head(before.head.last_seq + 1)]).unwrap();
        drop(file);
        // as a full disk, a power cut or a kill leaves it
        std::fs::write(path.join("snap.FFFFFFFFFFFFFF00.generating"), bytes).unwrap();
        let (_, after, lost) = LedgerFile::open(&path, Damaged::SetAside).unwrap();
        assert_eq!((lost, after.head.last_seq), (None, before.head.last_seq + 1));
    }
}

#[test]
fn a_second_agent_is_kept_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = lock(dir.path()).unwrap();
    assert!(matches!(lock(dir.path()), Err(LedgerError::Locked(_))));
    drop(first);
    lock(dir.path()).unwrap();
}
