//! PostgreSQL under Patroni, with etcd: a member of both on each of the first servers.
//!
//! As on machines of their own: each has its address, its directory, its processes, and on each a HAProxy of its own leads
//! to whichever is the primary (`packaging/haproxy/database.cfg`). Commits are synchronous, to the disk and to a
//! standby, and there are none without one.

use super::net::{Net, Program, address, at};
use crate::wait;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From the start of three members to both standbys following: 8 s on an idle machine.
const UP_MAX: Duration = Duration::from_secs(120);
/// A fail-over: 6 s there.
const FAILOVER_MAX: Duration = Duration::from_secs(90);
/// Where controllers find it, each on its own machine.
pub const URL: &str = "postgres://straas@127.0.0.1:5000/straas";

/// The members.
pub struct Database {
    dir: PathBuf,
    /// Numbers of the servers.
    members: Vec<u8>,
    etcd: Vec<Program>,
    patroni: Vec<Option<Program>>,
}

impl Database {
    /// Starts members on these servers, and makes the controllers' database.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(net: &Net, dir: &Path, members: &[u8]) -> Result<Self> {
        let mut database =
            Self { dir: dir.join("db"), members: members.to_vec(), etcd: Vec::new(), patroni: Vec::new() };
        std::fs::create_dir_all(&database.dir)?;
        let owner = User::from_name("postgres")?.context("there is no user postgres: apt-get install postgresql")?;
        let all: Vec<_> = members.iter().map(|n| format!("e{n}=http://{}", at(*n, 2380))).collect();
        for number in members {
            let own = database.dir.join(format!("m{number}"));
            std::fs::create_dir_all(own.join("s"))?;
            for path in [&own, &own.join("s")] {
                chown(path, Some(owner.uid), Some(owner.gid))?;
            }
            let (client, peer) = (format!("http://{}", at(*number, 2379)), format!("http://{}", at(*number, 2380)));
            let (name, data) = (format!("e{number}"), own.join("etcd"));
            let argv = [
                "etcd",
                "--name",
                &name,
                "--data-dir",
                &data.to_string_lossy(),
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &all.join(","),
                "--heartbeat-interval",
                "200",
                "--election-timeout",
                "2000",
                "--pre-vote=true",
                // with the newer interface Patroni 3.0 lets a primary that comes back from behind a cut take the lock
                // from the one that was elected meanwhile, and nobody can follow either any more
                "--enable-v2=true",
                "--logger",
                "zap",
                "--log-outputs",
                "stderr",
            ];
            database.etcd.push(net.start(*number, &format!("etcd-{number}"), &argv)?);
            std::fs::write(database.config(*number), config(&database.dir, *number, members)?)?;
        }
        for number in members {
            database.patroni.push(Some(database.member(net, *number)?));
        }
        database.settled(net).await?;
        let primary = database.primary(net).context("there is no primary")?;
        sql(net, primary, "postgres", "create role straas login")?;
        sql(net, primary, "postgres", "create database straas owner straas")?;
        // a standby has it a moment later, and HAProxy begins with any of them
        for number in members {
            let there = async || sql(net, *number, "straas", "select 1").ok();
            wait("the controllers' database on every member", UP_MAX, there).await?;
        }
        Ok(database)
    }

    fn config(&self, number: u8) -> PathBuf {
        self.dir.join(format!("p{number}.yml"))
    }

    fn member(&self, net: &Net, number: u8) -> Result<Program> {
        let config = self.config(number);
        let argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "patroni"];
        net.start(number, &format!("patroni-{number}"), &[&argv[..], &[&config.to_string_lossy()]].concat())
    }

    /// The member that is the primary, by its own word.
    #[must_use]
    pub fn primary(&self, net: &Net) -> Option<u8> {
        self.members.iter().copied().find(|number| says_primary(net, *number))
    }

    /// Waits until every member runs, every standby follows, and one of them may take over.
    ///
    /// # Errors
    /// Not in time.
    pub async fn settled(&self, net: &Net) -> Result<()> {
        let count = self.members.len();
        wait("all members of the database", UP_MAX, async || {
            let primary = self.primary(net)?;
            let url = format!("http://{}/cluster", at(primary, 8008));
            let text = net.run(primary, &["curl", "-sf", "-m", "2", &url]).ok()?;
            let cluster: Value = serde_json::from_str(&text).ok()?;
            let runs = cluster["members"].as_array()?.iter().filter(|member| member["state"] == "running").count();
            let follows = "select count(*) from pg_stat_replication where state = 'streaming'";
            let follows: usize = sql(net, primary, "postgres", follows).ok()?.parse().ok()?;
            // in Patroni's own book: only such a one may take over
            let in_step =
                cluster["members"].as_array()?.iter().filter(|member| member["role"] == "sync_standby").count();
            (runs == count && follows == count - 1 && in_step == usize::from(count > 1)).then_some(())
        })
        .await
    }

    /// `kill -9` of the primary: Patroni and PostgreSQL; its number.
    ///
    /// # Errors
    /// There is none.
    pub fn kill_primary(&mut self, net: &Net) -> Result<u8> {
        let number = self.primary(net).context("there is no primary")?;
        let at = self.members.iter().position(|member| *member == number).context("no member")?;
        self.patroni[at].take().context("it does not run")?.kill()?;
        let pid = std::fs::read_to_string(self.dir.join(format!("m{number}/data/postmaster.pid")))?;
        let pid: i32 = pid.lines().next().unwrap_or_default().parse()?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        Ok(number)
    }

    /// Starts a member that was killed.
    ///
    /// # Errors
    /// It runs.
    pub fn start_again(&mut self, net: &Net, number: u8) -> Result<()> {
        let at = self.members.iter().position(|member| *member == number).context("no member")?;
        ensure!(self.patroni[at].is_none(), "it runs");
        self.patroni[at] = Some(self.member(net, number)?);
        Ok(())
    }

    /// Hands over until this member leads and the others follow.
    ///
    /// # Errors
    /// Patroni refuses, or not in time.
    pub async fn led_by(&self, net: &Net, number: u8) -> Result<()> {
        for _ in 0..2 * self.members.len() {
            if self.primary(net) == Some(number) {
                return Ok(());
            }
            let before = self.switch_over(net)?;
            self.another(net, before).await?;
            self.settled(net).await?;
        }
        anyhow::bail!("member {number} does not come to lead")
    }

    /// Hands over to a standby, as an operator asks for it.
    ///
    /// # Errors
    /// Patroni refuses.
    pub fn switch_over(&self, net: &Net) -> Result<u8> {
        let number = self.primary(net).context("there is no primary")?;
        let config = self.config(number);
        let leader = format!("pg{number}");
        let argv =
            ["patronictl", "-c", &config.to_string_lossy(), "switchover", "fleet", "--leader", &leader, "--force"];
        net.run(number, &argv)?;
        Ok(number)
    }

    /// Waits until another member than this one is the primary; which.
    ///
    /// # Errors
    /// Not in time.
    pub async fn another(&self, net: &Net, than: u8) -> Result<u8> {
        // one that is cut off believes for a moment that it still is
        let look = async || self.members.iter().copied().find(|number| *number != than && says_primary(net, *number));
        wait("another primary", FAILOVER_MAX, look).await
    }

    /// Members.
    #[must_use]
    pub fn members(&self) -> &[u8] {
        &self.members
    }
}

/// Asked on its own server: another one may be cut off.
fn says_primary(net: &Net, number: u8) -> bool {
    let url = format!("http://{}/primary", at(number, 8008));
    net.run(number, &["curl", "-sf", "-m", "2", "-o", "/dev/null", &url]).is_ok()
}

/// What a statement gives on a member.
///
/// # Errors
/// It failed.
pub fn sql(net: &Net, number: u8, database: &str, text: &str) -> Result<String> {
    let host = address(number).to_string();
    net.run(number, &["psql", "-h", &host, "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-Atc", text])
}

/// The programs of the newest PostgreSQL.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let numbered =
        versions.filter_map(|version| Some((version.file_name().to_str()?.parse::<u32>().ok()?, version.path())));
    let newest = numbered.max().context("there is no PostgreSQL: apt-get install postgresql")?;
    Ok(newest.1.join("bin"))
}

/// A cut link says nothing: by default a minute goes by until one end of a replication notices.
const SILENCE: &str = "wal_sender_timeout: 5s, wal_receiver_timeout: 5s, wal_retrieve_retry_interval: 1s, tcp_user_timeout: 5000, \
                       tcp_keepalives_idle: 2, tcp_keepalives_interval: 1, tcp_keepalives_count: 3";

fn config(dir: &Path, number: u8, members: &[u8]) -> Result<String> {
    let etcd: Vec<_> = members.iter().map(|member| format!("\"{}\"", at(*member, 2379))).collect();
    let (own, host) = (dir.join(format!("m{number}")), address(number));
    let mut text = format!("scope: fleet\nnamespace: /svc/\nname: pg{number}\n");
    let _ = write!(
        text,
        "restapi: {{ listen: \"{host}:8008\", connect_address: \"{host}:8008\" }}\n\
         etcd: {{ hosts: [{etcd}] }}\n\
         bootstrap:\n  dcs:\n    ttl: 8\n    loop_wait: 1\n    retry_timeout: 3\n    maximum_lag_on_failover: 1048576\n    \
         synchronous_mode: true\n    synchronous_mode_strict: {strict}\n    postgresql:\n      use_pg_rewind: true\n      parameters: {{ wal_level: replica, \
         hot_standby: \"on\", max_wal_senders: 6, max_replication_slots: 6, wal_log_hints: \"on\", shared_buffers: 32MB, \
         max_connections: 100, synchronous_commit: \"on\", {silence} }}\n  \
         initdb: [ encoding: UTF8, data-checksums, locale: C.UTF-8 ]\n  \
         pg_hba: [ \"host all all 10.77.0.0/24 trust\", \"host replication all 10.77.0.0/24 trust\", \"local all all trust\" ]\n\
         postgresql:\n  listen: \"{host}:5432\"\n  connect_address: \"{host}:5432\"\n  data_dir: {own}/data\n  \
         bin_dir: {bin}\n  pgpass: {own}/pgpass\n  authentication: {{ superuser: {{ username: postgres, password: x }}, \
         replication: {{ username: repl, password: x }}, rewind: {{ username: rewind, password: x }} }}\n  \
         parameters: {{ unix_socket_directories: {own}/s }}\n",
        silence = SILENCE,
        // one that is alone has nobody to wait for
        strict = members.len() > 1,
        etcd = etcd.join(", "),
        own = own.display(),
        bin = programs()?.display(),
    );
    Ok(text)
}
