//! What the API can be asked, the command line can ask: every query parameter of the document is one that some command
//! sends, as somebody between the two sees it; and every change that can be held to what was seen, is.

use crate::cli::Cli;
use crate::life::Town;
use http::Method;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

/// Lines of requests, and the headers of what they were held to.
type Heard = Arc<Mutex<String>>;

/// Passes everything on to the controller and keeps what was asked.
async fn between(controller: SocketAddr) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, heard) = (listener.local_addr().expect("an address"), Heard::default());
    let kept = heard.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(controller).await.expect("the controller");
                let ((mut asks, mut hears), (mut answers, mut takes)) = (client.into_split(), server.into_split());
                tokio::spawn(async move { drop(copy(&mut answers, &mut hears).await) });
                let mut some = vec![0; 64 << 10];
                while let Ok(count @ 1..) = asks.read(&mut some).await {
                    kept.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push_str(&String::from_utf8_lossy(&some[..count]));
                    if takes.write_all(&some[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, heard)
}

/// A path of the document that a path asked for is of.
fn template<'d>(paths: &'d [String], asked: &str) -> Option<&'d String> {
    let fits = |template: &&String| {
        let (mut wanted, mut is) = (template.split('/'), asked.split('/'));
        loop {
            match (wanted.next(), is.next()) {
                (None, None) => return true,
                (Some("{path}"), Some(_)) => return true,
                (Some(step), Some(part)) if step == part || step.starts_with('{') && !part.is_empty() => {}
                _ => return false,
            }
        }
    };
    // one without a variable part is meant before one with it
    paths.iter().filter(fits).min_by_key(|path| path.matches('{').count())
}

/// What no command sends, and why.
const NOT_SENT: &[(&str, &str, &str)] = &[
    ("", "marker", "pages are followed by themselves"),
    ("", "limit", "a page is as large as the controller makes it, where a command has no -n"),
    ("POST /configurations/updates/{component_id}", "dry_run", "without --take it is only shown"),
    ("GET /commands/{id}", "wait", "a command is followed by its events, with its output"),
    ("GET /commands/{id}/output", "offset", "the output comes with the command, or with its events"),
    ("POST /jobs/{id}/pause", "dry_run", "nobody is disturbed by it"),
    ("POST /jobs/{id}/resume", "dry_run", "what goes on was shown when it began"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_parameter_of_the_document_is_sent_by_some_command() {
    let town = Town::new(3).await;
    let mut cli = Cli::of(&town.rig);
    let controller = cli.endpoint.trim_start_matches("http://").parse().expect("an address");
    let (address, heard) = between(controller).await;
    cli.endpoint = format!("http://{address}");
    let file = town.rig.dir.path().join("a-file");
    std::fs::write(&file, "content").expect("written");
    let (file, commit) = (file.display(), town.spec().await.want.config);
    let script = town.scripts().head().expect("a head");
    let etag = async |of: &str| {
        let ran = cli.run(&format!("etag {of} -o json")).await;
        ran.json().as_str().expect("a text").to_owned()
    };
    let lines = [
        "topology list --name town --az z1 --status ACTIVE --all-tenants".to_owned(),
        "topology create more --az z1 --size 1 --dry-run".into(),
        "audit --topology town --caller admin --method POST --status 202 --since 2020-01-01T00:00:00Z \
         --until 2099-01-01T00:00:00Z --all-tenants"
            .into(),
        "command list --node town-zk-1 --topology town --component town/zk --batch none --command zk-cmd/list-namespace \
         --state failed --all-tenants"
            .into(),
        "node list --topology town --component town/zk --role server --status active --all-tenants".into(),
        "node targets --all-tenants".into(),
        "host list --zone z1 --state free".into(),
        "node history town-zk-1 --at 2020-01-01T00:00:00Z --limit 3".into(),
        "job list --topology town --component town/zk --kind create --state succeeded --open --all-tenants".into(),
        "quarantine list --what version --topology town".into(),
        "rollout list --open --all-tenants".into(),
        "rollout start --dry-run".into(),
        "guestcmd list --component town/zk".into(),
        "config settings --zone z1".into(),
        "config tag list town --role user --prefix v".into(),
        "config log town -n 3".into(),
        "config log town app -n 3".into(),
        "config updates town zk".into(),
        "token list --user nobody --all-tenants".into(),
        "user list --tenant red".into(),
        format!("storage put {file} jars/a --region z1"),
        "storage list --region z1".into(),
        format!("storage get jars/a {file}.back --region z1"),
        "storage give jars/a /opt/a --topology town --dry-run".into(),
        "storage take /opt/a --topology town --dry-run".into(),
        format!("script sync --topology town --commit {script} --dry-run"),
        "topology delete town --dry-run".into(),
        "component flexup town zk --count 2 --dry-run".into(),
        "component patch town zk --size 5 --dry-run".into(),
        format!("component configure town zk {commit} --dry-run"),
        "component start town zk --dry-run".into(),
        "component stop town zk --dry-run".into(),
        "component restart town zk --dry-run".into(),
        "component remove town zk --dry-run".into(),
        "component depend town zk --nothing --dry-run".into(),
        "component add town kf --type kafka --depends-on zk --dry-run".into(),
        "node start town-zk-1 --dry-run".into(),
        "node stop town-zk-1 --dry-run".into(),
        "node restart town-zk-1 --dry-run".into(),
        "node replace town-zk-1 --dry-run".into(),
        "node remove town-zk-2 town-zk-3 --dry-run".into(),
        "job cancel town --dry-run".into(),
        "command run assist-cmd/list --node town-zk-1 --deadline 1".into(),
        "command run assist-cmd/list --topology town --deadline 1".into(),
    ];
    for line in &lines {
        let ran = cli.run(line).await;
        assert!(!ran.text().contains("unknown field") && !ran.text().contains("Usage:"), "{line}: {ran:?}");
    }
    // what can be held to what was seen: refused with an ETag that is none of it, let through with that of now
    let seen = [etag("topology town").await, etag("component town zk").await, etag("node town-zk-1").await];
    for (line, seen) in [
        ("topology delete town --dry-run", &seen[0]),
        ("component patch town zk --size 5 --dry-run", &seen[1]),
        ("component flexup town zk --count 2 --dry-run", &seen[1]),
        ("component configure town zk --dry-run", &seen[1]),
        ("component start town zk --dry-run", &seen[1]),
        ("component stop town zk --dry-run", &seen[1]),
        ("component restart town zk --dry-run", &seen[1]),
        ("component remove town zk --dry-run", &seen[1]),
        ("component depend town zk --nothing --dry-run", &seen[1]),
        ("node start town-zk-1 --dry-run", &seen[2]),
        ("node stop town-zk-1 --dry-run", &seen[2]),
        ("node restart town-zk-1 --dry-run", &seen[2]),
        ("node replace town-zk-1 --dry-run", &seen[2]),
        ("node remove town-zk-1 town-zk-2 --dry-run", &seen[2]),
    ] {
        cli.run(&format!("{line} --if-match none-of-it")).await.says(4, &["(412)", "straas etag"]);
        // it may be refused for what it is
        let ran = cli.run(&format!("{line} --if-match {seen}")).await;
        assert!(!ran.text().contains("(412)"), "{line}: {ran:?}");
    }
    // what cannot be in a phase is said by the controller, which shows that it was asked
    cli.run("ca rotate --dry-run").await.says(0, &["spreading"]);
    cli.run("ca take-back --dry-run").await.says(4, &["no exchange is under way"]);
    cli.run("ca advance settled --dry-run").await.says(4, &["no exchange is under way"]);
    cli.run("ca advance spreading --dry-run").await.says(4, &["settled"]);
    cli.run("ca show").await.says(0, &["settled", "StraaS fleet CA"]);
    cli.run("ca certificates").await.says(0, &["BEGIN CERTIFICATE"]);
    cli.run("tenant add red").await.says(0, &[]);
    cli.run("cms create town").await.says(0, &[]);
    assert_eq!(
        town.rig
            .post("/straas/v1.0/users", &serde_json::json!({ "name": "ann", "password": "long enough", "tenants": {} }))
            .await
            .status,
        201
    );
    std::fs::write(town.rig.dir.path().join("password"), "another one\n").expect("written");
    let password = town.rig.dir.path().join("password");
    let body = serde_json::json!({ "name": "metal", "zone": "z1" });
    let host = town.rig.post("/straas/v1.0/hosts", &body).await.json()["id"].as_str().expect("an id").to_owned();
    let tag = format!("config tag create town v1 --commit {commit}");
    cli.run(&tag).await.says(0, &[]);
    for (line, of) in [
        ("cms sync town".to_owned(), "cms town"),
        ("cms remove town".into(), "cms town"),
        (format!("user password ann --password-file {}", password.display()), "user ann"),
        ("user role ann red member".into(), "user ann"),
        ("user role ann red --none".into(), "user ann"),
        ("user remove ann".into(), "user ann"),
        (format!("host cordon {host}"), &format!("host {host}")),
        (format!("host uncordon {host}"), &format!("host {host}")),
        (format!("host remove {host} --force"), &format!("host {host}")),
        (format!("storage put {file} jars/a --region z1"), "file jars/a --region z1"),
        ("storage remove jars/a --region z1".into(), "file jars/a --region z1"),
    ] {
        cli.run(&format!("{line} --if-match none-of-it")).await.says(4, &[]);
        let seen = etag(of).await;
        cli.run(&format!("{line} --if-match {seen}")).await.says(0, &[]);
    }
    cli.run(&format!("config tag delete town v1 --if-at {}", "0".repeat(40))).await.says(4, &[]);
    cli.run(&format!("config tag delete town v1 --if-at {commit}")).await.says(0, &[]);
    cli.run("config cat town app/zookeeper/3.8.0/user.json").await.says(0, &[]);
    cli.run(&format!("config put town notes.txt {file} --if-at {}", "0".repeat(40))).await.says(4, &[]);

    // what went over the wire
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let document = town.rig.get("/straas/openapi.json").await;
    let paths: Vec<String> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    let (mut sent, mut held) = (BTreeSet::new(), BTreeSet::new());
    let mut last = None;
    for line in heard.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [method, target, "HTTP/1.1"] = words[..]
            && let (path, query) = target.split_once('?').unwrap_or((target, ""))
            && let Some(template) = template(&paths, path)
        {
            let route = format!("{method} {}", template.trim_start_matches("/straas/v1.0"));
            let names = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.to_owned());
            sent.extend(names.map(|name| (route.clone(), name)));
            last = Some(route);
        } else if line.to_ascii_lowercase().starts_with("if-match: ") {
            held.extend(last.clone());
        }
    }
    let (mut unsent, mut unheld, mut count) = (Vec::new(), Vec::new(), 0);
    for (path, operations) in document["paths"].as_object().expect("paths") {
        // the API of before, which keeps to what it was
        let Some(short) = path.strip_prefix("/straas/v1.0").filter(|path| !path.starts_with("/typologies")) else {
            continue;
        };
        for (method, operation) in operations.as_object().expect("operations") {
            let route = format!("{} {short}", Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method"));
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let (name, place) = (parameter["name"].as_str().unwrap_or_default(), &parameter["in"]);
                if place == "query" {
                    let excused =
                        |(of, what, _): &&(&str, &str, &str)| *what == name && (of.is_empty() || *of == route);
                    let asked = sent.contains(&(route.clone(), name.to_owned()));
                    count += usize::from(asked);
                    if !asked && !NOT_SENT.iter().any(|one| excused(&one)) {
                        unsent.push(format!("{route} {name}"));
                    }
                }
                if name.eq_ignore_ascii_case("if-match") && !held.contains(&route) {
                    unheld.push(route.clone());
                }
            }
        }
    }
    assert_eq!((unsent, unheld), (vec![], vec![]), "no command sends these");
    assert!(count > 60, "{count}");
}
