//! Changes of configuration, as an operator makes them who pushes to the config repo.

use crate::cluster::Cluster;
use crate::stages::AUTHOR;
use anyhow::{Context as _, Result};
use serde_json::Value;

/// Where a component's user settings are.
#[must_use]
pub fn user_file(kind: &str, version: &str) -> String {
    format!("app/{kind}/{version}/user.json")
}

impl Cluster {
    /// Changes what is known of a component type, for every topology, as an operator does it.
    ///
    /// # Errors
    /// There is no such type.
    pub fn edit_type(&self, kind: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let (configs, path) = (self.configs()?, format!("metadata/{kind}.json"));
        let content = configs.read(&configs.head()?, &path)?.with_context(|| format!("there is no {path}"))?;
        let mut document: Value = serde_json::from_slice(&content)?;
        change(&mut document);
        configs.write("master", &path, &serde_json::to_vec_pretty(&document)?, "metadata", AUTHOR)?;
        Ok(())
    }

    /// Sets a value on a topology's branch and returns the commit.
    ///
    /// # Errors
    /// There is no such branch, file or option.
    pub fn set(&self, branch: &str, file: &str, section: &str, key: &str, value: &str) -> Result<String> {
        self.edit(branch, file, section, key, |option| option["value"] = value.into())
    }

    /// Changes the words that explain an option, which no node reads.
    ///
    /// # Errors
    /// As [`Cluster::set`].
    pub fn comment(&self, branch: &str, file: &str, section: &str, key: &str, doc: &str) -> Result<String> {
        self.edit(branch, file, section, key, |option| option["doc"] = doc.into())
    }

    fn edit(
        &self,
        branch: &str,
        file: &str,
        section: &str,
        key: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<String> {
        let configs = self.configs()?;
        let head = configs.branch(branch)?.with_context(|| format!("there is no branch {branch}"))?;
        let content = configs.read(&head, file)?.with_context(|| format!("{branch} has no {file}"))?;
        let mut document: Value = serde_json::from_slice(&content)?;
        let sections = document["content"].as_array_mut().context("no sections")?;
        let options = sections.iter_mut().find(|s| s["section"] == section).map(|s| &mut s["options"]);
        let options = options.and_then(Value::as_array_mut).with_context(|| format!("{file} has no {section}"))?;
        let option = options.iter_mut().find(|o| o["key"] == key);
        change(option.with_context(|| format!("{file} has no {section}.{key}"))?);
        let content = serde_json::to_vec_pretty(&document)?;
        let commit = configs.write(branch, file, &content, &format!("{section}.{key}"), AUTHOR)?;
        Ok(commit.as_str().to_owned())
    }
}
