//! A backup is written beside a controller at work, and a controller is put back from it: agents that went on meanwhile come
//! back, what the backup had is there, and what damages it is found before anything is changed.

use crate::agent::live;
use crate::life::{API, Town};
use crate::rig::{Rig, TOPOLOGIES};
use http::Method;
use std::path::PathBuf;
use straas_controller::backup::{backup, migrate_store, reopen, restore};

const STORED: &str = "/straas/v1.0/storage/local/regions/z1/kept/a";

async fn backed_up(rig: &Rig, name: &str) -> PathBuf {
    let to = rig.dir.path().join(name);
    backup(&rig.config(), &to, &mut |_| {}).await.expect("a backup");
    to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_went_on_come_back_to_what_the_backup_has() {
    let mut town = Town::new(3).await;
    let put = town.rig.call(Method::POST, STORED, b"content".to_vec()).await;
    assert_eq!(put.status, 201, "{}", put.text());
    let at = backed_up(&town.rig, "backup").await;
    let before = town.view().await;
    let ran = town.agents[0].ran();

    // what comes after it: another configuration, a file, three generations
    let commit = town.set_tick_time(3456);
    let job = town.begin(Method::PUT, &format!("{}/tree/{commit}", town.path()), serde_json::Value::Null).await;
    town.until_job(&job, "succeeded").await;
    assert_ne!(town.agents[0].ran(), ran);
    let told = town.agents[0].assignment().generation;
    town.rig.down().await.expect("stopped");

    let rig = Rig::restored(&town.rig, &at).await;
    town.agents.iter_mut().for_each(|agent| agent.follow(&rig));
    let view = live(&rig, &mut town.agents, &town.topology, "ACTIVE").await;
    assert_eq!(view["components"][0]["config"], before["components"][0]["config"]);
    assert_eq!(town.agents[0].ran(), ran, "what was wanted then");
    assert!(town.agents[0].assignment().generation > told);
    let stored = rig.call(Method::GET, &format!("{STORED}?content=true"), Vec::new()).await;
    assert_eq!((stored.status, stored.body.as_ref()), (200, &b"content"[..]));
    // and on from there
    assert_eq!(rig.delete(&town.topology).await.status, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_did_after_the_backup_counts() {
    let mut rig = Rig::start().await;
    let topology = rig.create("late", 3).await;
    let mut agents = rig.enrolled(&topology, 3).await;
    let at = backed_up(&rig, "backup").await;
    live(&rig, &mut agents, &topology, "ACTIVE").await;
    let ran = agents[0].ran();
    rig.down().await.expect("stopped");
    let rig = Rig::restored(&rig, &at).await;
    agents.iter_mut().for_each(|agent| agent.follow(&rig));
    live(&rig, &mut agents, &topology, "ACTIVE").await;
    assert_eq!(agents[0].ran(), ran, "nothing was run again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_not_whole_changes_nothing() {
    let mut rig = Rig::start().await;
    rig.create("kept", 1).await;
    let at = backed_up(&rig, "backup").await;
    let again = backup(&rig.config(), &at, &mut |_| {}).await.expect_err("the folder is there");
    assert!(format!("{again:#}").contains("has to be a new one"), "{again:#}");
    let refused = restore(&rig.config(), &at, &mut |_| {}).await.expect_err("a controller lives there");
    assert!(format!("{refused:#}").contains("is not empty"), "{refused:#}");
    rig.down().await.expect("stopped");

    let check = async |damage: &dyn Fn(), says: &str| {
        damage();
        let rig = Rig::empty(&rig);
        let refused = restore(&rig.config(), &at, &mut |_| {}).await.expect_err("damaged");
        assert!(format!("{refused:#}").contains(says), "{refused:#}");
        assert!(!rig.data().exists(), "nothing was changed");
    };
    let key = at.join("ca/ca.key");
    let good = std::fs::read(&key).expect("read");
    check(&|| std::fs::write(&key, "another").expect("written"), "ca/ca.key is another").await;
    check(&|| std::fs::remove_file(&key).expect("removed"), "ca/ca.key").await;
    std::fs::write(&key, good).expect("written");
    let list = at.join("backup.json");
    let text = std::fs::read_to_string(&list).expect("read");
    let outside = text.replacen("\"path\": \"", "\"path\": \"../", 1);
    check(&|| std::fs::write(&list, &outside).expect("written"), "names a file that is not in it").await;
    check(&|| std::fs::remove_file(&list).expect("removed"), "without it this is no whole backup").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_goes_on_over_another_database() {
    let server = crate::temp_pg::TempPg::start().expect("PostgreSQL");
    let url = server.create_database("moved").await.expect("a database");
    let mut town = Town::new(1).await;
    let from = town.rig.config();
    let to = Rig::empty(&town.rig);
    let to = straas_controller::config::Config { store: toml_store(&url), ..to.config() };
    let mut told = Vec::new();
    migrate_store(&from, &to, true, &mut |line| told.push(line.to_owned())).await.expect("a look");
    assert!(told.last().is_some_and(|line| line.contains("nothing was changed")), "{told:?}");
    migrate_store(&from, &to, false, &mut |_| {}).await.expect("moved");

    // the controller that still runs on the old one reads, and promises nothing any more
    let refused = town.rig.post(TOPOLOGIES, &crate::rig::topology("late")).await;
    assert!(refused.status >= 500, "{}", refused.text());
    assert_eq!(town.rig.get(&format!("{API}/topologies")).await["items"].as_array().expect("items").len(), 1);
    town.rig.down().await.expect("stopped");
    let refused = town.rig.refuses_to_start().await;
    assert!(refused.contains("was moved to another one"), "{refused}");

    town.rig.use_database(&url);
    town.rig.up().await;
    let (rig, agents) = (&town.rig, &mut town.agents);
    agents.iter_mut().for_each(|agent| agent.follow(rig));
    live(rig, agents, &town.topology, "ACTIVE").await;
    assert_eq!(rig.post(TOPOLOGIES, &crate::rig::topology("late")).await.status, 202);
    assert!(reopen(&to).await.is_err(), "that one was not moved");
    reopen(&from).await.expect("open again");
}

fn toml_store(url: &str) -> straas_controller::config::StoreConfig {
    straas_controller::config::StoreConfig { url: Some(url.to_owned()) }
}
