//! Versions side by side over one PostgreSQL, as on the day on which controllers are exchanged one by one. The newer one is
//! played by the signs that it leaves in the database.

use crate::agent::live;
use crate::life::API;
use crate::rig::Rig;
use crate::temp_pg::TempPg;
use http::Method;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::time::Duration;

/// How a newer version leaves a database that it has brought up to date.
const MIGRATED: &str = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9001, \
                        'of a newer version', true, '\\x00', 0)";
/// It is there, and stays.
const THERE: &str = "insert into controller (id, seen_ms, level, version) values ('newer', \
                     (extract(epoch from now()) * 1000)::bigint + 3600000, 9001, '9.0.0')";
/// A word that this version knows, and one of a later one.
const WORDS: &str = "with n as (update counter set value = value + 1 where name = 'news' returning value) insert into news \
                     (seq, said_by, at_ms, document) select value, 'newer', (extract(epoch from now()) * 1000)::bigint, \
                     '[{\"of_a_newer_version\":{\"x\":1}},\"rollouts\"]' from n";

struct Database(PgConnection);

impl Database {
    async fn run(&mut self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut self.0).await.expect("a statement");
    }

    /// Topologies that a controller left to a newer version.
    async fn left(&mut self) -> Vec<String> {
        let found = "select document from news where document like '%\"look\"%' order by seq";
        sqlx::query_scalar(found).fetch_all(&mut self.0).await.expect("news")
    }
}

async fn chores(rig: &Rig, count: usize) {
    let wanted = format!("straas_controller_chores {count}\n");
    rig.until("/metrics", |answer| answer.text().contains(&wanted)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_version_plans_and_an_older_one_serves() {
    let server = TempPg::start().expect("PostgreSQL");
    let url = server.create_database("versions").await.expect("a database");
    let mut rig = Rig::start_with(&format!("[store]\nurl = {url:?}\n")).await;
    let mut database = Database(PgConnection::connect(&url).await.expect("a connection"));
    let topology = rig.create("demo", 1).await;
    let mut agents = rig.enrolled(&topology, 1).await;
    live(&rig, &mut agents, &topology, "ACTIVE").await;
    chores(&rig, 4).await;
    agents[0].poll(0).await;
    let before = agents[0].assignment().generation;

    database.run(MIGRATED).await;
    database.run(THERE).await;
    chores(&rig, 0).await;
    let restart = format!("{API}/nodes/{}/services", agents[0].node);
    let asked = rig.call(Method::PUT, &restart, Vec::new()).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    let begun = std::time::Instant::now();
    while !database.left().await.iter().any(|words| words.contains(&topology)) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing was left to the newer one: {:?}",
            database.left().await
        );
        // waits for: what the controller writes to the database
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // it is served all the same: agents, users, and this version once more
    agents[0].heartbeat().await;
    agents[0].poll(0).await;
    assert_eq!(agents[0].assignment().generation, before, "planned by the older version");
    rig.kill().await;
    rig.up().await;
    agents[0].follow(&rig);
    chores(&rig, 0).await;
    agents[0].poll(0).await;
    assert_eq!(agents[0].assignment().generation, before, "planned by the older version after its start");
    // what the newer one says is heard as far as it is understood
    database.run(WORDS).await;

    // the newer one did not do, and is stopped
    database.run("delete from controller where id = 'newer'").await;
    chores(&rig, 4).await;
    live(&rig, &mut agents, &topology, "ACTIVE").await;
    let begun = std::time::Instant::now();
    while agents[0].assignment().generation == before {
        assert!(begun.elapsed() < Duration::from_secs(60), "the restart is not planned");
        agents[0].round().await;
    }

    // a newer version may write what this one cannot work with; then it keeps away
    database.run("update counter set value = 9001 where name = 'oldest_level'").await;
    rig.down().await.expect("a good end");
    let refusal = rig.refuses_to_start().await;
    assert!(refusal.contains("a newer version of this program wrote it; use that one or a newer"), "{refusal}");
}
