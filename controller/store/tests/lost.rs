//! A PostgreSQL server that goes away without a word: connections stay open and nothing comes on them any more.

// expects stand for "the machine of this test must be able to do this"
#![allow(clippy::expect_used)]

#[path = "support/temp_pg.rs"]
mod temp_pg;

use sqlx::{Connection as _, Executor as _, PgConnection};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use straas_store::{Beside, NewsStore as _, SqlStore, Store as _, StoreError};
use temp_pg::TempPg;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// The way to a server; while it is cut, bytes stop and nobody is told.
struct Way {
    port: u16,
    /// Numbers the cuts: what was connected before one of them never carries anything again.
    cuts: watch::Sender<(u32, bool)>,
}

impl Way {
    async fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let cuts = watch::Sender::new((0, false));
        let seen = cuts.subscribe();
        let socket: Arc<Path> = socket.into();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, socket.clone(), seen.clone()));
            }
        });
        Self { port, cuts }
    }

    fn cut(&self) {
        self.cuts.send_modify(|(cuts, cut)| (*cuts, *cut) = (*cuts + 1, true));
    }

    fn heal(&self) {
        self.cuts.send_modify(|(_, cut)| *cut = false);
    }
}

async fn carry(mut near: TcpStream, socket: Arc<Path>, mut cuts: watch::Receiver<(u32, bool)>) -> std::io::Result<()> {
    let (number, cut) = *cuts.borrow();
    if !cut {
        let mut far = UnixStream::connect(socket).await?;
        let (mut here, mut there) = (vec![0; 16 << 10], vec![0; 16 << 10]);
        loop {
            tokio::select! {
                biased;
                () = async { drop(cuts.wait_for(|(cuts, _)| *cuts != number).await) } => break,
                read = near.read(&mut here) => match read? {
                    0 => return Ok(()),
                    read => far.write_all(&here[..read]).await?,
                },
                read = far.read(&mut there) => match read? {
                    0 => return Ok(()),
                    read => near.write_all(&there[..read]).await?,
                },
            }
        }
    }
    // held open for ever
    std::future::pending().await
}

struct There {
    store: SqlStore,
    way: Way,
    server: TempPg,
    url: String,
}

async fn there() -> There {
    let server = TempPg::start().expect("PostgreSQL");
    let url = server.create_database("lost").await.expect("a database");
    let socket = url.split_once("host=").and_then(|(_, rest)| rest.split('&').next()).expect("a folder");
    let way = Way::to(Path::new(socket).join(".s.PGSQL.5432")).await;
    let store = SqlStore::connect(&format!("postgres://postgres@127.0.0.1:{}/lost", way.port)).await.expect("a store");
    There { store, way, server, url }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_server_that_is_gone_is_told_so_and_keeps_no_connection() {
    let There { store, way, server: _server, url } = there().await;
    let mut other = PgConnection::connect(&url).await.expect("a connection past the way");
    other.execute("begin; lock table controller").await.expect("locked");
    // what a transaction sees of others it sees once
    let mut watching = PgConnection::connect(&url).await.expect("a connection past the way");
    // more than there are connections, each in the middle of a statement or waiting for one
    let calls: Vec<_> = (0..24).map(|number| present(&store, number)).collect();
    loop {
        let stuck: i64 = sqlx::query_scalar("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
            .fetch_one(&mut watching)
            .await
            .expect("counted");
        if stuck >= 16 {
            break;
        }
        tokio::task::yield_now().await;
    }
    way.cut();
    other.execute("rollback").await.expect("unlocked");
    for call in calls {
        let ended = call.await.expect("no panic");
        assert!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
    }
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))), "the way is cut");
    way.heal();
    store.ping().await.expect("nothing has to be started anew");
    for number in 0..24 {
        present(&store, number).await.expect("no panic").expect("there are connections again");
    }
}

fn present(store: &SqlStore, number: u32) -> tokio::task::JoinHandle<straas_store::Result<Vec<Beside>>> {
    let store = store.clone();
    tokio::spawn(async move { store.present(&format!("c{number}"), "1.0.0", 1).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bell_whose_connection_is_gone_is_heard_again_by_itself() {
    let There { store, way, server: _server, .. } = there().await;
    let (rung, mut heard) = watch::channel(0u32);
    let listening = store.clone();
    tokio::spawn(async move {
        loop {
            match listening.listen().await {
                Ok(()) => rung.send_modify(|rung| *rung += 1),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    // until it listens, and after each cut until it does so again
    for _ in 0..2 {
        let before = *heard.borrow_and_update();
        while *heard.borrow() == before {
            store.say("c", &[], 1).await.expect("said");
            tokio::task::yield_now().await;
        }
        way.cut();
        way.heal();
    }
}
