//! Changes of a component that works, hit in every stage: healed in time, turned back, held.

use crate::failures::{OWN, Play, words};
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::time::Instant;
use straas_repos::Change;
use straas_schemas::job::{JobStage, JobStanding};
use straas_schemas::view::Accepted;
use straas_tests::cells::{Cell, Expect, told};
use straas_tests::cluster::STEP_MAX;
use straas_tests::settings::user_file;
use straas_tests::stages::AUTHOR;

/// Goes first with every change.
const FIRST: &str = "f-a-1";
/// What a commit of the scripts changes.
const SCRIPTS: [&str; 3] = ["pre_config/moody", "cmd/moody/default/runpuppet.sh", "cmd/moody/default/validate.sh"];

/// All of them.
pub async fn waves(play: &Play<'_>) -> Result<()> {
    let first = play.component("a").await?.config;
    configured(play).await?;
    rolled_back(play, &first).await?;
    upgraded(play).await?;
    synced(play).await
}

async fn configure(play: &Play<'_>, words: &str) -> Result<Accepted> {
    let component = play.component("a").await?;
    let file = user_file("moody", &component.version);
    let commit = play.cluster.set("f@az1", &file, "server", "greeting", words)?;
    play.ask(Method::PUT, &format!("/components/{}/tree/{commit}", component.id), None).await
}

async fn configured(play: &Play<'_>) -> Result<()> {
    play.fail(FIRST, &OWN[1..]);
    let accepted = configure(play, "good").await?;
    play.walk("configure", accepted.job.id.as_str(), FIRST, &OWN[1..]).await?;
    play.succeeds(&accepted).await?;
    for point in ["pre_config", "config", "validate"] {
        turned_back(play, "configure", point, configure(play, &format!("bad-{point}"))).await?;
    }
    Ok(())
}

/// The first node fails for good: everything is as before, and the job says why.
async fn turned_back(
    play: &Play<'_>,
    workflow: &'static str,
    point: &'static str,
    request: impl Future<Output = Result<Accepted>>,
) -> Result<()> {
    let (since, before) = (Instant::now(), play.component("a").await?);
    play.conductor.fail(FIRST, point, &words(FIRST, point));
    let accepted = request.await?;
    let turned = |job: &straas_schemas::job::Job| job.detail.contains("turned back").then(|| job.detail.clone());
    let told = play.cluster.follow(accepted.job.id.as_str(), STEP_MAX, turned).await;
    let told = told.with_context(|| format!("{workflow} / {point} to be turned back"))?;
    ensure!(told.contains(FIRST) && told.contains(&format!("{point} failed")), "it says {told}");
    ensure!(!told.contains("@straas"), "the reason is a message of the script contract: {told}");
    // what is put back must not fail either
    play.conductor.heal(FIRST, point);
    let job = play.cluster.ended(&accepted).await?;
    ensure!(job.standing == JobStanding::RolledBack, "{workflow} / {point} ended as {:?}", job.standing);
    play.cluster.settled(&play.id).await?;
    let after = play.component("a").await?;
    let what = |c: &straas_schemas::view::ComponentView| (c.version.clone(), c.config.clone(), c.scripts.clone());
    let same = if workflow == "configure" { what(&after) == what(&before) } else { after.version == before.version };
    ensure!(same && after.scripts == before.scripts, "it has {:?}, not {:?}", what(&after), what(&before));
    let cell = Cell { workflow, stage: point, expect: Expect::TurnedBack };
    play.rows.seen(cell, told, since.elapsed().as_secs_f64());
    Ok(())
}

/// A rollback has no first node: what fails holds it, and goes on once it is healed.
async fn rolled_back(play: &Play<'_>, to: &str) -> Result<()> {
    play.fail(FIRST, &OWN[1..]);
    let path = format!("/components/{}/tree/{to}", play.component("a").await?.id);
    let accepted = play.ask(Method::PUT, &path, None).await?;
    let job = accepted.job.id.as_str();
    play.walk("rollback", job, FIRST, &OWN[1..2]).await?;
    let since = Instant::now();
    let held = |job: &straas_schemas::job::Job| (job.standing == JobStanding::Held).then(|| job.detail.clone());
    let told = play.cluster.follow(job, STEP_MAX, held).await.context("the rollback to be held")?;
    ensure!(told.contains(FIRST) && told.contains("config failed"), "it says {told}");
    play.conductor.heal(FIRST, "config");
    let cell = Cell { workflow: "rollback", stage: "config", expect: Expect::Held };
    play.rows.seen(cell, told, since.elapsed().as_secs_f64());
    play.walk("rollback", job, FIRST, &OWN[3..]).await?;
    play.succeeds(&accepted).await
}

async fn upgraded(play: &Play<'_>) -> Result<()> {
    let path = format!("/components/{}", play.component("a").await?.id);
    let to = |version: &str| json!({ "version": version });
    let (new, old) = (to("2.0"), to("1.0"));
    turned_back(play, "upgrade", "install", play.ask(Method::PATCH, &path, Some(&new))).await?;
    released(play, "version").await?;
    play.fail(FIRST, &OWN[..2]);
    let accepted = play.ask(Method::PATCH, &path, Some(&new)).await?;
    play.walk("upgrade", accepted.job.id.as_str(), FIRST, &OWN[..2]).await?;
    play.succeeds(&accepted).await?;
    for point in ["config", "validate"] {
        turned_back(play, "upgrade", point, play.ask(Method::PATCH, &path, Some(&old))).await?;
        released(play, "version").await?;
    }
    Ok(())
}

/// The other version or commit is in quarantine, and a user lets it out.
async fn released(play: &Play<'_>, what: &str) -> Result<()> {
    let page: Value = play.cluster.api.get("/quarantine").await?;
    let item = page["items"].as_array().and_then(|items| items.iter().find(|item| item["what"] == what));
    let item = item.with_context(|| format!("no {what} is in quarantine: {page}"))?;
    let path = format!("/quarantine/{what}/{}", item["key"].as_str().context("no key")?);
    let response = play.cluster.api.request(Method::DELETE, &format!("/straas/v1.0{path}"), None).await?;
    ensure!(response.status().is_success(), "{path}: {}", response.status());
    Ok(())
}

async fn sync(play: &Play<'_>, words: &str) -> Result<Accepted> {
    let scripts = play.cluster.scripts()?;
    let head = scripts.head()?;
    let mut changes = Vec::new();
    for path in SCRIPTS {
        let mut content = scripts.read(&head, path)?.with_context(|| format!("there is no {path}"))?;
        content.extend_from_slice(format!("# {words}\n").as_bytes());
        changes.push(Change::Put { path: path.to_owned(), content, executable: Some(true) });
    }
    let commit = scripts.commit(None, &changes, words, AUTHOR)?;
    let component = play.component("a").await?.id;
    let body = json!({ "scope": "components", "items": [component], "commit": commit.as_str() });
    let mut answer: Value = play.cluster.api.call(Method::PUT, "/nodes/scripts", Some(&body)).await?;
    let job = serde_json::from_value(answer["jobs"][0].take()).context("no job")?;
    Ok(Accepted { id: play.id.clone(), job })
}

async fn synced(play: &Play<'_>) -> Result<()> {
    for point in ["pre_config", "validate"] {
        turned_back(play, "sync", point, sync(play, &format!("bad {point}"))).await?;
        released(play, "scripts").await?;
    }
    play.fail(FIRST, &OWN[2..3]);
    let accepted = sync(play, "good").await?;
    let since = Instant::now();
    let shown = play.shown(accepted.job.id.as_str(), FIRST, "config", JobStage::Config).await?;
    play.conductor.heal(FIRST, "config");
    play.seen("sync", "config", told(JobStage::Config, &shown), since);
    play.succeeds(&accepted).await
}
