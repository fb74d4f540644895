//! Real microhosts on this machine: made, reached, broken, adopted, removed. Needs root and
//! namespaces; says so and passes where they are missing.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::{PATIENCE, agent_deb, eventually, microhosts, progress, spec};
use straas_drivers::local::{Isolation, LocalHosts};
use straas_drivers::{Delay, Faults, HostError, HostPhase, Hosts, Link};

/// Packets of one ping that came back, and their mean round trip in ms.
async fn ping(hosts: &LocalHosts, from: &str, to: &str, count: u32) -> (u32, f64) {
    let count = count.to_string();
    let out = hosts.exec(from, &["ping", "-n", "-q", "-i", "0.05", "-W", "1", "-c", &count, to]).await.unwrap();
    let received =
        out.stdout.lines().find_map(|line| line.split(" received").next()?.rsplit(", ").next()?.parse().ok());
    let mean = out.stdout.lines().find_map(|line| line.strip_prefix("rtt ")?.split('/').nth(4)?.parse().ok());
    (received.unwrap_or(0), mean.unwrap_or(f64::INFINITY))
}

async fn reaches(hosts: &LocalHosts, from: &str, to: &str) -> bool {
    ping(hosts, from, to, 1).await.0 == 1
}

#[tokio::test]
async fn two_hosts_live_break_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(hosts) = microhosts("t-life", dir.path()).await else { return };
    let (one, two) = (spec("n-1", "demo-zk-1"), spec("n-2", "demo-zk-2"));
    let start = Instant::now();
    let first = hosts.ensure(&one).await.unwrap();
    println!("the first host took {} ms", start.elapsed().as_millis());
    let start = Instant::now();
    let second = hosts.ensure(&two).await.unwrap();
    println!("the second host took {} ms", start.elapsed().as_millis());
    assert_eq!((first.phase, first.boots, first.link), (HostPhase::Running, 1, Link::Up));
    assert_eq!((first.address.to_string(), second.address.to_string()), ("10.77.0.11".into(), "10.77.0.12".into()));
    assert_eq!(hosts.ensure(&one).await.unwrap(), first, "a second ensure changes nothing");

    inside(&hosts).await;
    link(&hosts).await;
    power(&hosts).await;

    // The controller dies; the hosts do not. Its successor finds them.
    let before = hosts.list().await.unwrap();
    let mut config = common::config("t-life", dir.path(), Isolation::Microhost);
    config.agent_deb = agent_deb(dir.path());
    assert!(
        matches!(LocalHosts::open(config.clone()).await, Err(HostError::Busy { .. })),
        "two drivers on one instance"
    );
    drop(hosts);
    let half = dir.path().join("state/hosts/half-made/upper");
    std::fs::create_dir_all(half).unwrap();
    let hosts = LocalHosts::open(config).await.unwrap();
    assert_eq!(hosts.list().await.unwrap(), before);
    assert!(!dir.path().join("state/hosts/half-made").exists());
    assert!(reaches(&hosts, "n-1", "10.77.0.12").await);

    nothing_left(hosts, dir.path()).await;
}

async fn inside(hosts: &LocalHosts) {
    let run = async |argv: &[&str]| hosts.exec("n-1", argv).await.unwrap();
    assert_eq!(run(&["hostname"]).await.stdout, "demo-zk-1\n");
    assert_eq!(run(&["sh", "-c", "exit 7"]).await.code, 7);
    assert_eq!(run(&["sh", "-c", "echo $STRAAS_SECRET$CARGO"]).await.stdout, "\n");
    eventually("the userdata", || async { run(&["test", "-e", "/var/lib/straas/userdata.done"]).await.code == 0 })
        .await;
    assert_eq!(
        run(&["stat", "-c", "%a %n", "/etc/straas/agent.toml", "/etc/straas/join-token", "/etc/straas"]).await.stdout,
        "600 /etc/straas/agent.toml\n600 /etc/straas/join-token\n700 /etc/straas\n"
    );
    assert_eq!(run(&["cat", "/etc/straas/join-token"]).await.stdout, "join-token-of-the-test\n");
    assert_ne!(run(&["test", "-e", "/var/lib/straas/userdata"]).await.code, 0, "the script with the token is gone");
    eventually("the agent", || async {
        hosts.agent_log("n-1").unwrap().contains("agent --config /etc/straas/agent.toml")
    })
    .await;
    assert_eq!(run(&["dpkg-query", "-W", "-f", "${Status}", "straas-agent"]).await.stdout, "install ok installed");
    let files = run(&["sh", "-c", "ls /proc/1/fd | wc -l; readlink /proc/1/fd/* | grep -c ^/tmp"]).await.stdout;
    assert!(files.ends_with("\n1\n"), "only the init's log is of the machine: {files}");
    let env = run(&["sh", "-c", "tr '\\0' ' ' < /proc/1/environ"]).await.stdout;
    assert!(!env.contains("CARGO"), "the controller's environment is in the host: {env}");
    // A killed agent comes back by itself.
    let pid = run(&["pidof", "sleep"]).await.stdout;
    assert_eq!(run(&["kill", "-9", pid.trim()]).await.code, 0);
    eventually("a new agent", || async {
        let now = run(&["pidof", "sleep"]).await.stdout;
        !now.trim().is_empty() && now != pid
    })
    .await;
    // From the gateway into the host and back.
    let listener = hosts.listen(0).unwrap();
    let port = listener.local_addr().unwrap().port();
    let accept =
        tokio::spawn(async move { tokio::net::TcpListener::from_std(listener).unwrap().accept().await.unwrap().1 });
    run(&["bash", "-c", &format!("exec 3<>/dev/tcp/10.77.0.1/{port}")]).await;
    let peer = tokio::time::timeout(PATIENCE, accept).await.unwrap().unwrap();
    assert_eq!(peer.ip().to_string(), "10.77.0.11");
    assert!(std::net::TcpStream::connect(("10.77.0.1", port)).is_err(), "the fabric is seen outside");
}

async fn link(hosts: &LocalHosts) {
    let status = async || hosts.list().await.unwrap().remove(0).link;
    assert!(reaches(hosts, "n-1", "10.77.0.12").await);
    hosts.cut("n-1").await.unwrap();
    assert_eq!(status().await, Link::Cut);
    assert!(!reaches(hosts, "n-1", "10.77.0.12").await);
    hosts.reboot("n-1").await.unwrap();
    assert!(!reaches(hosts, "n-1", "10.77.0.12").await, "a cut survives a reboot");
    hosts.heal("n-1").await.unwrap();
    eventually("the healed link", || reaches(hosts, "n-1", "10.77.0.12")).await;

    let (_, quick) = ping(hosts, "n-1", "10.77.0.12", 10).await;
    hosts.delay("n-1", Delay { ms: 40, loss_percent: 0.0 }).await.unwrap();
    assert_eq!(status().await, Link::Delayed);
    let (received, slow) = ping(hosts, "n-1", "10.77.0.12", 10).await;
    println!("mean round trip {quick} ms, delayed by 2 x 40 ms: {slow} ms");
    assert!(received >= 9 && slow > 10.0 * quick && slow >= 80.0, "{received} came back, {quick} -> {slow} ms");
    // Bytes stay whole on their way through the helper.
    let sum = "import socket,hashlib;s=socket.create_server(('0.0.0.0',9000));open('/run/up','w');c,_=s.accept();h=hashlib.sha256()\nwhile d:=c.recv(65536): h.update(d)\nprint(h.hexdigest())";
    let server = {
        let hosts = hosts.clone();
        tokio::spawn(async move { hosts.exec("n-2", &["python3", "-c", sum]).await.unwrap() })
    };
    eventually("the listener", || async { hosts.exec("n-2", &["test", "-e", "/run/up"]).await.unwrap().code == 0 })
        .await;
    let send = "import socket,hashlib,os;b=os.urandom(2000000);s=socket.create_connection(('10.77.0.12',9000));s.sendall(b);s.close();print(hashlib.sha256(b).hexdigest())";
    let sent = hosts.exec("n-1", &["python3", "-c", send]).await.unwrap();
    assert_eq!(sent.stdout, tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap().stdout, "{}", sent.stderr);
    hosts.delay("n-1", Delay { ms: 0, loss_percent: 100.0 }).await.unwrap();
    assert!(!reaches(hosts, "n-1", "10.77.0.12").await, "a second delay replaces the first");
    hosts.undelay("n-1").await.unwrap();
    assert_eq!(status().await, Link::Up);
    eventually("the straight link", || reaches(hosts, "n-1", "10.77.0.12")).await;
}

async fn power(hosts: &LocalHosts) {
    hosts.exec("n-2", &["sh", "-c", "echo kept > /root/note; sync"]).await.unwrap();
    hosts.delay("n-2", Delay { ms: 5, loss_percent: 0.0 }).await.unwrap();
    hosts.crash("n-2").await.unwrap();
    hosts.crash("n-2").await.unwrap();
    assert_eq!(hosts.list().await.unwrap()[1].phase, HostPhase::Down);
    assert!(matches!(hosts.exec("n-2", &["true"]).await, Err(HostError::Down(_))));
    let booted = hosts.boot("n-2").await.unwrap();
    assert_eq!((booted.phase, booted.boots, booted.link), (HostPhase::Running, 2, Link::Up));
    assert_eq!(hosts.exec("n-2", &["cat", "/root/note"]).await.unwrap().stdout, "kept\n");
    // Known to its neighbours at once: the MAC address follows from the IP address.
    assert!(reaches(hosts, "n-1", "10.77.0.12").await);
    let mut wrong = spec("n-2", "other");
    assert!(matches!(hosts.ensure(&wrong).await, Err(HostError::Conflict { .. })));
    wrong.id = "../n-2".into();
    assert!(matches!(hosts.ensure(&wrong).await, Err(HostError::Invalid { .. })));
    assert!(matches!(hosts.crash("n-9").await, Err(HostError::NotFound(_))));
}

async fn nothing_left(hosts: LocalHosts, dir: &Path) {
    let pids: Vec<i32> = hosts.list().await.unwrap().iter().filter_map(|host| host.pid).collect();
    hosts.delay("n-2", Delay { ms: 5, loss_percent: 0.0 }).await.unwrap();
    hosts.destroy("n-1").await.unwrap();
    hosts.destroy("n-1").await.unwrap();
    assert_eq!(
        hosts.ensure(&spec("n-3", "demo-zk-3")).await.unwrap().address.to_string(),
        "10.77.0.11",
        "the address was freed"
    );
    hosts.teardown().await.unwrap();
    assert!(hosts.list().await.unwrap().is_empty());
    drop(hosts);
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
    assert!(!Path::new("/run/netns/straas-t-life").exists());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
    assert_eq!(std::fs::read_dir(dir.join("state/hosts")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(dir.join("state/trash")).unwrap().count(), 0);
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    assert!(!links.contains("v11") && !links.contains("br0"), "{links}");
}

#[tokio::test]
async fn userdata_that_fails_is_shown_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(hosts) = microhosts("t-ud", dir.path()).await else { return };
    let mut host = spec("n-1", "demo-1");
    host.userdata =
        "echo try >> /root/tries\n[ $(wc -l < /root/tries) -ge 2 ] || { echo 'not yet' >&2; exit 9; }".into();
    hosts.ensure(&host).await.unwrap();
    eventually("the failure", || async { hosts.list().await.unwrap()[0].detail.is_some() }).await;
    assert_eq!(hosts.list().await.unwrap()[0].detail.as_deref(), Some("userdata failed (exit 9): not yet"));
    hosts.reboot("n-1").await.unwrap();
    eventually("the success", || async { hosts.list().await.unwrap()[0].detail.is_none() }).await;
    hosts.reboot("n-1").await.unwrap();
    eventually("the agent", || async { !hosts.agent_log("n-1").unwrap().is_empty() }).await;
    assert_eq!(
        hosts.exec("n-1", &["cat", "/root/tries"]).await.unwrap().stdout,
        "try\ntry\n",
        "run once after its success"
    );
    hosts.teardown().await.unwrap();
}

#[tokio::test]
async fn packages_come_from_the_signed_repository() {
    let dir = tempfile::tempdir().unwrap();
    let Some(hosts) = microhosts("t-apt", dir.path()).await else { return };
    let requests = ["tree".to_owned(), "no-such-package-anywhere".to_owned(), "tree=99.*".to_owned()];
    let repo = hosts.packages(&requests, progress()).await.unwrap().unwrap();
    let missing: Vec<&str> = repo.missing.iter().map(|missing| missing.request.as_str()).collect();
    assert_eq!(missing, ["no-such-package-anywhere", "tree=99.*"]);
    assert!(repo.missing[0].reason.contains("Unable to locate"), "{:?}", repo.missing);
    let start = Instant::now();
    assert!(hosts.packages(&requests[..1], progress()).await.unwrap().unwrap().missing.is_empty());
    println!("asking again took {} ms", start.elapsed().as_millis());
    assert!(!repo.dir.join("signing").exists());

    // Served by Debian's Python in the fabric, as the controller would.
    let served = repo.dir.clone();
    let mut server = hosts
        .within(move || {
            Command::new("/usr/bin/python3")
                .args(["-m", "http.server", "--bind", "10.77.0.1", "8081", "--directory"])
                .arg(served)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .await
        .unwrap();
    eventually("the server", || async { hosts.connect("10.77.0.1:8081".parse().unwrap()).await.is_ok() }).await;
    let mut host = spec("n-1", "demo-1");
    host.agent.apt = Some(repo.source("http://10.77.0.1:8081"));
    hosts.ensure(&host).await.unwrap();
    eventually("the userdata", || async {
        hosts.exec("n-1", &["test", "-e", "/var/lib/straas/userdata.done"]).await.unwrap().code == 0
    })
    .await;
    let update = hosts.exec("n-1", &["apt-get", "update"]).await.unwrap();
    assert_eq!(update.code, 0, "{update:?}");
    assert!(!update.stderr.contains("W:"), "{update:?}");
    let install = hosts.exec("n-1", &["apt-get", "install", "-y", "tree"]).await.unwrap();
    assert_eq!(install.code, 0, "{install:?}");
    assert_eq!(hosts.exec("n-1", &["tree", "--version"]).await.unwrap().code, 0);
    let nothing = hosts.exec("n-1", &["apt-get", "install", "-y", "no-such-package-anywhere"]).await.unwrap();
    assert_eq!(nothing.code, 100);
    server.kill().unwrap();
    server.wait().unwrap();
    hosts.teardown().await.unwrap();
}

/// Packages that no mirror has are made on this machine and bring what they depend on from it.
#[tokio::test]
async fn packages_made_here_are_in_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let Some(hosts) = microhosts("t-made", dir.path()).await else { return };
    drop(hosts);
    let made = dir.path().join("made");
    let script = dir.path().join("components/build.sh");
    let deb = |content: &str| {
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let control = "Package: straas-test-made\nVersion: 1-1\nArchitecture: all\nMaintainer: t <t@localhost>\nDepends: tree\nDescription: t\n";
        std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
        std::fs::write(tree.join("made"), content).unwrap();
        let to = made.join(content).join("straas-test-made_1-1_all.deb");
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let built = Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&tree).arg(&to).output().unwrap();
        assert!(built.status.success(), "{built:?}");
        std::fs::create_dir_all(script.parent().unwrap()).unwrap();
        std::fs::write(&script, format!("#!/bin/sh\necho {}\n", to.display())).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::read(&to).unwrap()
    };
    let mut config = common::config("t-made", dir.path(), Isolation::Microhost);
    config.agent_deb = agent_deb(dir.path());
    config.components = Some(dir.path().join("components"));
    let request = ["straas-test-made=1-*".to_owned()];
    let file = Path::new("pool/straas-test-made_1-1_all.deb");
    // the same name and version with another content replaces what is there
    for content in ["first", "second"] {
        let bytes = deb(content);
        let hosts = LocalHosts::open(config.clone()).await.unwrap();
        let repo = hosts.packages(&request, progress()).await.unwrap().unwrap();
        assert!(repo.missing.is_empty(), "{:?}", repo.missing);
        assert!(std::fs::read(repo.dir.join(file)).unwrap() == bytes, "the {content} package is not in the pool");
        let pool = std::fs::read_dir(repo.dir.join("pool")).unwrap().flatten();
        let names: Vec<String> = pool.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        assert!(names.iter().any(|name| name.starts_with("tree_")), "{names:?}");
        hosts.teardown().await.unwrap();
    }
}

/// Not a test: what `hosts_of_a_killed_controller_are_known_or_gone` runs in a process of its own
/// and kills. Does nothing otherwise.
#[tokio::test]
async fn victim() {
    let Some(dir) = std::env::var_os("STRAAS_TEST_VICTIM") else { return };
    let mut config = common::config("t-victim", Path::new(&dir), Isolation::Microhost);
    config.agent_deb = Path::new(&dir).join("debs/straas-agent_0.1.0_amd64.deb");
    let hosts = LocalHosts::open(config).await.unwrap();
    let name = std::env::var("STRAAS_TEST_NAME").unwrap();
    for round in 0.. {
        let id = format!("n-{}", round % 3);
        hosts.ensure(&spec(&id, &name)).await.unwrap();
        match round % 4 {
            0 => hosts.reboot(&id).await.map(drop).unwrap(),
            1 => hosts.delay(&id, Delay { ms: 1, loss_percent: 0.0 }).await.unwrap(),
            2 => hosts.destroy(&id).await.unwrap(),
            _ => hosts.cut(&id).await.unwrap(),
        }
    }
}

/// The inits of hosts with this name on this machine.
fn inits(name: &str) -> Vec<i32> {
    let mark = format!("init {name}");
    let mark = Path::new(&mark);
    let mut pids: Vec<i32> =
        common::processes_of(mark).iter().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

#[tokio::test]
async fn hosts_of_a_killed_controller_are_known_or_gone() {
    let dir = tempfile::tempdir().unwrap();
    let Some(hosts) = microhosts("t-victim", dir.path()).await else { return };
    drop(hosts);
    let mut config = common::config("t-victim", dir.path(), Isolation::Microhost);
    config.agent_deb = agent_deb(dir.path());
    let name = format!("victim-{}", std::process::id());
    for round in 0..25_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim"])
            .env("STRAAS_TEST_VICTIM", dir.path())
            .env("STRAAS_TEST_NAME", &name)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Where it is killed does not matter, only that it is elsewhere each time.
        // waits for: nothing; the time of the kill is what differs from round to round
        tokio::time::sleep(std::time::Duration::from_millis(20 + round * 29)).await;
        assert!(child.try_wait().unwrap().is_none(), "the victim ended by itself in round {round}");
        child.kill().unwrap();
        child.wait().unwrap();
        let hosts = LocalHosts::open(config.clone()).await.unwrap();
        eventually("every init is known", || async {
            let mut known: Vec<i32> = hosts.list().await.unwrap().iter().filter_map(|host| host.pid).collect();
            known.sort_unstable();
            known == inits(&name)
        })
        .await;
        for host in hosts.list().await.unwrap() {
            assert_eq!(hosts.boot(&host.id).await.unwrap().phase, HostPhase::Running);
            assert_eq!(hosts.exec(&host.id, &["hostname"]).await.unwrap().stdout.trim(), name);
        }
        if round % 5 == 4 {
            hosts.teardown().await.unwrap();
            assert_eq!(inits(&name), Vec::<i32>::new());
            assert_eq!(common::processes_of(dir.path()), Vec::<String>::new());
        }
    }
    let left = std::fs::read_dir(dir.path().join("state/hosts")).unwrap().count();
    assert_eq!(left, 0);
    assert!(!Path::new("/run/netns/straas-t-victim").exists());
}

/// The kernel takes away the links of namespaces that went one after another, some time later.
#[tokio::test]
async fn links_that_are_just_going_stop_nobody() {
    const GOING: u32 = 24;
    let dir = tempfile::tempdir().unwrap();
    let Some(hosts) = microhosts("t-going", dir.path()).await else { return };
    drop(hosts);
    let mut config = common::config("t-going", dir.path(), Isolation::Microhost);
    config.agent_deb = agent_deb(dir.path());
    let ip = |line: &str| assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
    for _ in 0..5 {
        for number in 0..GOING {
            ip(&format!("netns add straas-t-gone-{number}"));
            ip(&format!("-n straas-t-going link add s{number} type veth peer name eth0 netns straas-t-gone-{number}"));
        }
        let going = std::thread::spawn(move || {
            for number in 0..GOING {
                ip(&format!("netns del straas-t-gone-{number}"));
            }
        });
        drop(LocalHosts::open(config.clone()).await.unwrap());
        going.join().unwrap();
    }
    LocalHosts::open(config).await.unwrap().teardown().await.unwrap();
}

/// Hosts that come and go change nothing for the others: a bridge without an address of its own takes the lowest of its
/// ports', and who knew the gateway by that one would talk to nobody for seconds.
#[tokio::test]
async fn the_gateway_keeps_its_hardware_address() {
    let dir = tempfile::tempdir().unwrap();
    let Some(hosts) = microhosts("t-address", dir.path()).await else { return };
    let address = || {
        let shown = Command::new("ip").args(["-n", "straas-t-address", "-br", "link", "show", "br0"]).output().unwrap();
        String::from_utf8(shown.stdout).unwrap().split_whitespace().nth(2).unwrap().to_owned()
    };
    let before = address();
    // no port has a lower one; an odd first byte would name a group
    let link = "-n straas-t-address link add lowest address 00:00:00:00:00:02 type veth peer name other";
    for line in [link, "-n straas-t-address link set lowest master br0 up", "-n straas-t-address link del lowest"] {
        assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
        assert_eq!(address(), before, "after ip {line}");
    }
    hosts.teardown().await.unwrap();
}
