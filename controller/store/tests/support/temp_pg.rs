//! A PostgreSQL server of one's own, from Debian's package, that ends with the test process.
//!
//! It listens on a unix socket in a folder of its own and nowhere else, without fsync. A shell
//! watches a pipe from the test process: when that process is gone, however it went, the pipe
//! closes, and the shell stops the server and removes the folder. The databases have an ICU locale
//! on purpose, as many an operator's has, so that whatever depends on the order of text shows.
//!
//! Never here: skipping. Without the package the test fails and says what to install.

#![allow(dead_code)] // each test binary uses what it needs

use anyhow::{Context as _, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// What the watching shell does. `$1` is the folder of PostgreSQL's programs.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
dir=$(mktemp -d /tmp/straas-pg.XXXXXX) && cd "$dir" || exit 1
if "$1/initdb" -D data -U postgres -A trust -E UTF8 --locale=C.UTF-8 --locale-provider=icu --icu-locale=en --no-sync >log 2>&1 &&
   "$1/pg_ctl" -D data -l log -w -t 120 start >>log 2>&1 \
     -o "-k $dir -c listen_addresses='' -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"
then echo "ready $dir"; else echo "failed: $(tail -n 5 log | tr '\n' ' ')"; fi
cat >/dev/null
"$1/pg_ctl" -D data -m immediate -w stop >>log 2>&1
cd / && rm -rf "$dir"
"#;

/// A running server.
pub struct TempPg {
    /// Its socket's folder.
    socket: PathBuf,
    /// Holds the pipe whose end stops the server.
    watcher: Child,
}

impl TempPg {
    /// Starts a server and waits until it answers.
    pub fn start() -> anyhow::Result<Self> {
        let programs = programs()?;
        let mut command = if std::fs::metadata("/proc/self")?.uid() == 0 {
            // initdb refuses root; the package made this user.
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", SCRIPT, "sh"]).arg(&programs).current_dir("/");
        let mut watcher = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting sh")?;
        let mut line = String::new();
        BufReader::new(watcher.stdout.take().context("no output")?).read_line(&mut line)?;
        let socket = line.trim().strip_prefix("ready ").map(PathBuf::from);
        let socket = socket.with_context(|| format!("PostgreSQL from {} did not start: {line}", programs.display()))?;
        Ok(Self { socket, watcher })
    }

    /// URL of a database of this server.
    pub fn url(&self, name: &str) -> String {
        format!("postgres:///{name}?host={}&user=postgres", self.socket.display())
    }

    /// Makes an empty database; returns its URL.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("create database \"{name}\""))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(self.url(name))
    }
}

impl Drop for TempPg {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// The programs of the newest version installed.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let numbered =
        versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))));
    let newest = numbered.filter(|(_, bin)| bin.join("initdb").exists()).max();
    let hint =
        "PostgreSQL is not installed (nothing in /usr/lib/postgresql/*/bin). Install it: apt-get install postgresql";
    let (version, bin) = newest.context(hint)?;
    ensure!(
        version >= 15,
        "PostgreSQL {version} is too old for these tests; 15 or newer is needed: apt-get install postgresql"
    );
    Ok(bin)
}
