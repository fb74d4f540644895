//! Where the controller is: from the command line, the environment, or what `straas dev up` wrote.

use crate::error::CliError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The controller this user talks to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Its URL.
    pub endpoint: String,
    /// File with the token; the token itself is never copied.
    pub token_file: Option<PathBuf>,
}

fn path() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    config.or_else(home).map(|dir| dir.join("straas/context.json"))
}

/// A file beside the context.
pub fn beside(name: &str) -> Option<PathBuf> {
    Some(path()?.with_file_name(name))
}

impl Context {
    /// What the command line and the environment say, completed by the context file.
    pub fn load(global: &crate::Global) -> Self {
        let kept = path().and_then(|path| std::fs::read(path).ok());
        let kept: Option<Self> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let given = global.endpoint.clone();
        // a token belongs to the endpoint it was written with
        let kept_token = kept
            .as_ref()
            .filter(|k| given.as_ref().is_none_or(|g| *g == k.endpoint))
            .and_then(|k| k.token_file.clone());
        Self {
            endpoint: given.or(kept.map(|k| k.endpoint)).unwrap_or_else(|| "http://127.0.0.1:8080".to_owned()),
            token_file: global.token_file.clone().or(kept_token),
        }
    }

    /// Keeps this context for later commands.
    pub fn save(&self) -> Result<(), CliError> {
        let path = path().ok_or_else(|| CliError::Local("neither HOME nor XDG_CONFIG_HOME is set".into()))?;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(&path, serde_json::to_vec_pretty(self).unwrap_or_default())?;
        Ok(())
    }

    /// Forgets the kept context if its token is this file.
    pub fn forget(token_file: &Path) {
        let kept = path().and_then(|path| Some((std::fs::read(&path).ok()?, path)));
        if let Some((bytes, path)) = kept
            && serde_json::from_slice::<Self>(&bytes).is_ok_and(|k| k.token_file.as_deref() == Some(token_file))
        {
            // a file that is gone already is what we want
            let _ = std::fs::remove_file(path);
        }
    }
}
