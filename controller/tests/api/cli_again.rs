//! The command line where answers are lost: what it asks for again, and that nothing is done twice.

use crate::cli::Cli;
use crate::rig::Rig;
use http::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const V1: &str = "/straas/v1.0";

/// Stands before the controller and cuts connections when requests of a method have been answered, so many times.
async fn cutting(endpoint: &str, method: &'static str, times: u32) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let place = format!("http://{}", listener.local_addr().expect("an address"));
    let to = endpoint.trim_start_matches("http://").to_owned();
    let left = Arc::new(AtomicU32::new(times));
    let told = left.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(&to).await.expect("the controller");
            tokio::spawn(relay(client, upstream, method, left.clone()));
        }
    });
    (place, told)
}

async fn relay(mut client: TcpStream, mut upstream: TcpStream, method: &str, left: Arc<AtomicU32>) {
    let (mut asked, mut answered, mut armed) = ([0; 16 << 10], [0; 16 << 10], false);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(count @ 1..) => {
                    armed |= asked.starts_with(method.as_bytes());
                    upstream.write_all(&asked[..count]).await.expect("sent");
                }
                _ => return,
            },
            read = upstream.read(&mut answered) => match read {
                Ok(count @ 1..) => {
                    let cut = armed && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
                    if cut || client.write_all(&answered[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

/// How often a method was carried out.
async fn done(rig: &Rig, method: &str) -> usize {
    rig.get(&format!("{V1}/audit?method={method}&limit=500")).await["items"].as_array().expect("items").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_is_answered_again_and_not_made_twice() {
    let rig = Rig::start().await;
    let mut cli = Cli::of(&rig);
    let (endpoint, left) = cutting(&rig.endpoint(), "POST", 2).await;
    cli.endpoint = endpoint;
    cli.run("tenant add red").await.says(0, &["red"]);
    assert_eq!((left.load(Ordering::SeqCst), done(&rig, "POST").await), (0, 1));
    left.store(1, Ordering::SeqCst);
    // its secret comes again, to the token that asked
    let made = cli.run("token create ci --tenant red -o json").await.json();
    let token = made["token"].as_str().expect("a token").to_owned();
    assert_eq!(
        rig.raw(Method::GET, &format!("{V1}/auth/token"), &[("x-auth-token", &token)], vec![]).await.status,
        200
    );
    assert_eq!((left.load(Ordering::SeqCst), done(&rig, "POST").await), (0, 2));
    // two invocations are two requests
    cli.run("tenant add red").await.says(4, &["there already"]);
    // a refusal is no answer that was lost, and one that is lost for ever is said
    left.store(100, Ordering::SeqCst);
    cli.run("tenant add blue").await.says(6, &["was lost", "it may have been done"]);
    let asked = 100 - left.load(Ordering::SeqCst);
    assert_eq!(asked, 8, "a bounded number of times");
    assert_eq!(rig.call(Method::GET, &format!("{V1}/tenants/blue"), vec![]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_name_is_asked_for_once_and_reading_again() {
    let rig = Rig::start().await;
    let mut cli = Cli::of(&rig);
    cli.run("tenant add red").await.says(0, &[]);
    let direct = cli.endpoint.clone();
    let (endpoint, left) = cutting(&direct, "DELETE", 1).await;
    cli.endpoint = endpoint;
    cli.run("tenant remove red").await.says(6, &["was lost", "see what is there now"]);
    assert_eq!((left.load(Ordering::SeqCst), done(&rig, "DELETE").await), (0, 1));
    rig.call(Method::GET, &format!("{V1}/tenants/red"), vec![]).await.problem(404);
    let (endpoint, left) = cutting(&direct, "GET", 2).await;
    cli.endpoint = endpoint;
    cli.run("tenant list").await.says(0, &["admin"]);
    assert_eq!(left.load(Ordering::SeqCst), 0);
}
