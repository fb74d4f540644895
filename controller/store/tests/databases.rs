//! What is about databases rather than about the trait: migrations, statements, several stores over
//! one database, what is durable, what is private, what the errors say.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/temp_pg.rs"]
mod temp_pg;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use straas_schemas::Stage;
use straas_store::conformance::cases;
use straas_store::conformance::{World, heartbeat, silent, stage_report};
use straas_store::{NewEvent, Source, SqlStore, Store, StoreError, copy_store, reopen_store};
use temp_pg::TempPg;

/// One server for all tests of this binary; it ends with the process.
static SERVER: LazyLock<TempPg> = LazyLock::new(|| TempPg::start().unwrap());

/// URLs of an empty database of each engine, and the folder that keeps the first.
async fn both(name: &str) -> (Vec<String>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let urls = vec![format!("sqlite:{}/{name}.db", dir.path().display()), SERVER.create_database(name).await.unwrap()];
    (urls, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_statement_is_understood() {
    let (urls, _keep) = both("statements").await;
    let mut counts = Vec::new();
    for url in urls {
        counts.push(SqlStore::connect(&url).await.unwrap().check_statements().await.unwrap());
    }
    assert!(counts[0] > 50 && counts[0] == counts[1], "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connecting_again_changes_nothing_and_at_once_is_fine() {
    let (urls, _keep) = both("again").await;
    for url in urls {
        let connecting: Vec<_> = (0..8)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move { SqlStore::connect(&url).await })
            })
            .collect();
        let mut stores = Vec::new();
        for store in connecting {
            stores.push(store.await.unwrap().unwrap());
        }
        let world = World::new(Arc::new(stores[0].clone()), "again", 2).await;
        let before = stores[1].snapshot(&world.topology.id).await.unwrap();
        assert!(before.is_some(), "one store sees what another has written");
        let late = SqlStore::connect(&url).await.unwrap();
        assert_eq!(late.snapshot(&world.topology.id).await.unwrap(), before);
        for store in stores {
            store.close().await;
        }
    }
}

/// Several stores over one database are several controllers: nothing is lost between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn controllers_share_a_database() {
    let (urls, _keep) = both("shared").await;
    for url in urls {
        let mut stores = Vec::new();
        for _ in 0..4 {
            stores.push(SqlStore::connect(&url).await.unwrap());
        }
        let world = World::new(Arc::new(stores[0].clone()), "shared", 4).await;
        for at in 0..4 {
            world.enrol(at, 10).await;
        }
        let tasks: Vec<_> = stores
            .iter()
            .enumerate()
            .map(|(at, store)| {
                let (store, node, topology) = (store.clone(), world.id(at).clone(), world.topology.id.clone());
                tokio::spawn(async move {
                    for seq in 1..=50 {
                        store
                            .record_reports(&node, 1, &[stage_report(seq, 1, Stage::Config, "")], &silent, 20)
                            .await
                            .unwrap();
                        store
                            .record_heartbeats(&[(node.clone(), seq.cast_signed(), heartbeat(1, "r", seq))])
                            .await
                            .unwrap();
                        let text = seq.to_string();
                        store
                            .add_events(&[NewEvent {
                                at_ms: 1,
                                topology: topology.clone(),
                                node: None,
                                kind: "job",
                                text,
                            }])
                            .await
                            .unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let events = stores[3].events(&world.topology.id, 0, 1000).await.unwrap();
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>(), "no gap");
        let seen = stores[2].snapshot(&world.topology.id).await.unwrap().unwrap();
        assert!(seen.nodes.iter().all(|node| node.heartbeat.as_ref().unwrap().1 == 50));
    }
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let bad = |answer: Result<SqlStore, StoreError>| answer.err().unwrap();
    let error = bad(SqlStore::connect("mysql://user:secret@host/db").await);
    assert!(matches!(error, StoreError::Broken { .. }) && !format!("{error:?}").contains("secret"));
    assert!(matches!(bad(SqlStore::connect("sqlite::memory:").await), StoreError::Broken { .. }));
    assert!(matches!(bad(SqlStore::connect("sqlite:/nowhere/at/all.db").await), StoreError::Unavailable(_)));
    assert!(matches!(bad(SqlStore::connect("postgres:///x?host=/nowhere&user=x").await), StoreError::Unavailable(_)));
}

#[tokio::test]
async fn the_file_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqlStore::connect(&format!("sqlite:{}/private.db", dir.path().display())).await.unwrap();
    store.ping().await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
    }
}

/// A server that goes away is `Unavailable`, and so is every call until it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_gone_is_unavailable() {
    let server = TempPg::start().unwrap();
    let store = SqlStore::connect(&server.create_database("gone").await.unwrap()).await.unwrap();
    store.ping().await.unwrap();
    drop(server);
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    let beats = [("n".into(), 1, heartbeat(1, "r", 1))];
    assert!(matches!(store.record_heartbeats(&beats).await, Err(StoreError::Unavailable(_))));
}

/// Set for a process that is started to be killed: the URL it writes to.
const WRITER: &str = "STRAAS_STORE_TEST_WRITER";

/// Not a test by itself: what the killed process does. Says each number after it was acknowledged.
#[tokio::test]
async fn writer_process() {
    let Ok(url) = std::env::var(WRITER) else { return };
    let store = SqlStore::connect(&url).await.unwrap();
    loop {
        let event = NewEvent { at_ms: 1, topology: "killed".into(), node: None, kind: "job", text: "x".to_owned() };
        let written = store.add_events(&[event]).await.unwrap();
        println!("\nacknowledged {}", written[0].seq);
    }
}

#[tokio::test]
async fn kill_9_loses_no_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/killed.db", dir.path().display());
    let mut acknowledged = Vec::new();
    for round in 1..=5_usize {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_process", "--nocapture"])
            .env(WRITER, &url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut numbers =
            lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<i64>().ok());
        acknowledged.extend(numbers.by_ref().take(20 * round));
        writer.kill().unwrap();
        acknowledged.extend(numbers);
        writer.wait().unwrap();
        let store = SqlStore::connect(&url).await.unwrap();
        let kept: Vec<_> =
            store.events(&"killed".into(), 0, 1000).await.unwrap().into_iter().map(|event| event.seq).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|seq| !kept.contains(seq)).collect();
        assert!(acknowledged.len() >= 20 * round && lost.is_empty(), "lost {lost:?} of {}", acknowledged.len());
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_is_moved_to_the_other_engine_and_back() {
    let (urls, dir) = both("moved").await;
    let [sqlite, postgres] = &urls[..] else { unreachable!() };
    // whatever the cases leave: something in almost every table
    let store = Arc::new(SqlStore::connect(sqlite).await.unwrap());
    for (_, case) in cases() {
        case(store.clone()).await;
    }
    let world = World::new(store.clone(), "moving", 1).await;
    let before = store.snapshot(&world.topology.id).await.unwrap();

    let looked = copy_store(sqlite, postgres, Source::Look, |_| {}).await.unwrap();
    let filled = looked.iter().filter(|table| table.rows > 0).count();
    println!("{} tables, {filled} with rows, {} rows", looked.len(), looked.iter().map(|t| t.rows).sum::<u64>());
    assert!(filled + 3 >= looked.len(), "{looked:?}");
    let mut told = Vec::new();
    let moved = copy_store(sqlite, postgres, Source::Close, |table| told.push(table.clone())).await.unwrap();
    assert_eq!((&moved, &told), (&looked, &looked), "what a look says is what is copied");

    // nothing is written to the old one, also by who has had it open all the time
    let event = |store: Arc<SqlStore>, topology| async move {
        let text = "late".to_owned();
        store.add_events(&[NewEvent { at_ms: 1, topology, node: None, kind: "test", text }]).await
    };
    let refused = event(store.clone(), world.topology.id.clone()).await.unwrap_err();
    assert!(chain(&refused).contains("was moved to another"), "{}", chain(&refused));
    let refused = SqlStore::connect(sqlite).await.unwrap_err();
    assert!(chain(&refused).contains("reopen-store"), "{}", chain(&refused));
    assert!(copy_store(sqlite, postgres, Source::Close, |_| {}).await.is_err(), "nor is it moved twice");
    store.close().await;

    // the new one has all of it, goes on from there, and is not copied over
    let new = Arc::new(SqlStore::connect(postgres).await.unwrap());
    assert_eq!(new.snapshot(&world.topology.id).await.unwrap(), before);
    event(new.clone(), world.topology.id.clone()).await.unwrap();
    let filled = copy_store(postgres, postgres, Source::Stay, |_| {}).await.unwrap_err();
    assert!(chain(&filled).contains("no controller was started with"), "{}", chain(&filled));
    event(new.clone(), world.topology.id.clone()).await.expect("it stayed open");

    // back, into another file
    let back = format!("sqlite:{}/back.db", dir.path().display());
    let copied = copy_store(postgres, &back, Source::Close, |_| {}).await.unwrap();
    let same = |name: &str| copied.iter().find(|t| t.name == name) == moved.iter().find(|t| t.name == name);
    for table in &moved {
        assert_eq!(
            same(&table.name),
            !["event", "event_tally", "counter"].contains(&table.name.as_str()),
            "{}",
            table.name
        );
    }
    let refused = event(new.clone(), world.topology.id.clone()).await.unwrap_err();
    assert!(chain(&refused).contains("was moved to another"), "{}", chain(&refused));
    assert!(reopen_store(postgres).await.unwrap() && !reopen_store(postgres).await.unwrap());
    event(new, world.topology.id.clone()).await.expect("open again");
    let store = Arc::new(SqlStore::connect(&back).await.unwrap());
    event(store, world.topology.id.clone()).await.expect("as good as any");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_move_that_fails_leaves_both_as_they_were() {
    let (urls, _keep) = both("unmoved").await;
    let [sqlite, postgres] = &urls[..] else { unreachable!() };
    let store = Arc::new(SqlStore::connect(sqlite).await.unwrap());
    let world = World::new(store.clone(), "staying", 1).await;
    // the target was taken into use meanwhile
    let other = SqlStore::connect(postgres).await.unwrap();
    World::new(Arc::new(other.clone()), "other", 1).await;
    let refused = copy_store(sqlite, postgres, Source::Close, |_| {}).await.unwrap_err();
    assert!(chain(&refused).contains("topology has rows"), "{}", chain(&refused));
    assert!(other.topology(&world.topology.id).await.unwrap().is_none());
    World::new(store, "open", 1).await;
}

/// An error with all its causes.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    text
}
