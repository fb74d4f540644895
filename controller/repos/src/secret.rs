//! Values that are not shown: which they are, and how a file is shown and taken back without them.
//!
//! `default.json` says which keys are secret; the keys of `user.json` beside it follow. A file that
//! holds none goes out byte for byte as it is.

use crate::bare::read_in;
use crate::config::ConfigRepo;
use crate::effective::parse_file;
use crate::error::{Doing as _, FileFault, Result};
use crate::refs::CommitId;
use crate::shape::line_of;
use crate::vault::Vault;
use git2::{Repository, Tree};
use std::collections::BTreeSet;
use straas_schemas::config::{ConfigFile, ConfigOption, SEALED, ValueKind, is_sealed};
use straas_schemas::configuration::SECRET;

/// Places that are named where more are wrong: nobody reads more.
const PLAIN_NAMED_MAX: usize = 5;

/// (section, key) of what is secret.
pub(crate) type Secrets = BTreeSet<(String, String)>;

/// Whether a path is that of a configuration file.
pub(crate) fn is_config(path: &str) -> bool {
    (path.starts_with("app/") || path.starts_with("service/")) && path.ends_with(".json")
}

/// What is secret in a folder of configuration files, and in a file that stands in it.
pub(crate) fn secrets(repo: &Repository, top: &Tree<'_>, path: &str, file: Option<&ConfigFile>) -> Result<Secrets> {
    // the settings of zones stand below, and are declared with the others
    let folder = if path.starts_with("service/") { "service" } else { path.rsplit_once('/').map_or("", |(at, _)| at) };
    let default = read_in(repo, top, &format!("{folder}/default.json")).ok().flatten();
    let default: Option<ConfigFile> = default.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut found = Secrets::new();
    for file in default.iter().chain(file) {
        for section in &file.content {
            let hidden = section.options.iter().filter(|option| option.secret);
            found.extend(hidden.map(|option| (section.section.clone(), option.key.clone())));
        }
    }
    Ok(found)
}

/// Runs `work` for every option that is secret.
pub(crate) fn each_secret(
    file: &mut ConfigFile,
    secrets: &Secrets,
    mut work: impl FnMut(usize, usize, &str, &mut ConfigOption),
) {
    for (s, section) in file.content.iter_mut().enumerate() {
        for (o, option) in section.options.iter_mut().enumerate() {
            if secrets.contains(&(section.section.clone(), option.key.clone())) {
                work(s, o, &section.section, option);
            }
        }
    }
}

/// The text of a file for people: [`SECRET`] in place of what is not shown.
fn shown(repo: &Repository, top: &Tree<'_>, path: &str, bytes: Vec<u8>) -> Result<String> {
    let plain = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if !is_config(path) {
        return Ok(plain(bytes));
    }
    let Ok(mut file) = serde_json::from_slice::<ConfigFile>(&bytes) else { return Ok(plain(bytes)) };
    let secrets = secrets(repo, top, path, Some(&file))?;
    let mut any = false;
    each_secret(&mut file, &secrets, |_, _, _, option| {
        any |= !option.value.is_empty();
        if !option.value.is_empty() {
            option.value = SECRET.to_owned();
        }
    });
    Ok(if any { pretty(&file) } else { plain(bytes) })
}

/// A configuration file as text, in the form in which the built-in ones are.
pub(crate) fn pretty(file: &ConfigFile) -> String {
    serde_json::to_string_pretty(file).unwrap_or_default() + "\n"
}

/// Puts the values back that the sender of a file was not shown.
///
/// # Errors
/// In the answer: a place where there is no such value to keep.
pub(crate) fn taken_back(
    repo: &Repository,
    top: &Tree<'_>,
    path: &str,
    content: String,
) -> Result<std::result::Result<String, Vec<FileFault>>> {
    if !content.contains(SECRET) {
        return Ok(Ok(content));
    }
    let Ok(mut file) = serde_json::from_str::<ConfigFile>(&content) else { return Ok(Ok(content)) };
    let secrets = secrets(repo, top, path, Some(&file))?;
    let before = parse_file(repo, top, path).ok().flatten();
    let mut faults = Vec::new();
    each_secret(&mut file, &secrets, |s, o, section, option| {
        if option.value != SECRET {
            return;
        }
        let sections = before.iter().flat_map(|file| &file.content).filter(|known| known.section == section);
        let known = sections.flat_map(|known| &known.options).find(|known| known.key == option.key);
        match known {
            Some(known) => option.value.clone_from(&known.value),
            None => faults.push(FileFault {
                file: path.to_owned(),
                line: None,
                pointer: format!("/content/{s}/options/{o}/value"),
                message: format!("{SECRET} keeps the value that is there, but there is none; give the value itself"),
            }),
        }
    });
    Ok(if faults.is_empty() { Ok(pretty(&file)) } else { Err(faults) })
}

/// Places of a file that begin as only sealed values may: nobody is ever given one to write back.
pub(crate) fn sealed_by_hand(path: &str, content: &str) -> Vec<FileFault> {
    let Ok(file) = serde_json::from_str::<ConfigFile>(content) else { return Vec::new() };
    let mut faults = Vec::new();
    for (s, section) in file.content.iter().enumerate().filter(|_| is_config(path)) {
        for (o, _) in section.options.iter().enumerate().filter(|(_, option)| is_sealed(&option.value)) {
            let pointer = format!("/content/{s}/options/{o}/value");
            let message = format!("a value cannot begin with {SEALED}; {SECRET} keeps a secret that is there");
            faults.push(FileFault { file: path.to_owned(), line: line_of(content, &pointer), pointer, message });
        }
    }
    faults
}

/// The file with its secrets sealed. Without a key, and where none is secret, it stays byte for byte as it is.
pub(crate) fn sealed(
    repo: &Repository,
    top: &Tree<'_>,
    path: &str,
    content: String,
    vault: Option<&Vault>,
) -> Result<String> {
    let (Some(vault), true) = (vault, is_config(path)) else { return Ok(content) };
    let Ok(mut file) = serde_json::from_str::<ConfigFile>(&content) else { return Ok(content) };
    let secrets = secrets(repo, top, path, Some(&file))?;
    let mut any = false;
    each_secret(&mut file, &secrets, |_, _, section, option| {
        // what is of another type is told as a fault by whoever merges the files
        if option.kind == ValueKind::String && !option.value.is_empty() && !is_sealed(&option.value) {
            option.value = vault.seal(section, &option.key, &option.value);
            any = true;
        }
    });
    Ok(if any { pretty(&file) } else { content })
}

/// What a push would bring in plain that is declared secret: its first places, in words. What was so before is not
/// told again.
pub(crate) fn in_plain(repo: &Repository, before: Option<&Tree<'_>>, top: &Tree<'_>) -> Result<Option<String>> {
    let doing = || "comparing what upstream has with what is here";
    let mut options = git2::DiffOptions::new();
    options.pathspec("app").pathspec("service").disable_pathspec_match(true);
    let diff = repo.diff_tree_to_tree(before, Some(top), Some(&mut options)).doing(doing)?;
    let mut found = Vec::new();
    for delta in diff.deltas() {
        let path = delta.new_file().path().and_then(|path| path.to_str()).filter(|path| is_config(path));
        let Some(path) = path.filter(|_| delta.status() != git2::Delta::Deleted) else { continue };
        // what cannot be read is told by whoever needs it
        let Some(mut file) = parse_file(repo, top, path).ok().flatten() else { continue };
        let was = before.and_then(|before| parse_file(repo, before, path).ok().flatten());
        let was: BTreeSet<_> = was.iter().flat_map(ConfigFile::options).map(|o| (o.name, &o.option.value)).collect();
        let secrets = secrets(repo, top, path, Some(&file))?;
        each_secret(&mut file, &secrets, |_, _, section, option| {
            let plain = option.kind == ValueKind::String && !option.value.is_empty() && !is_sealed(&option.value);
            if plain && !was.contains(&((section, option.key.as_str()), &option.value)) {
                found.push(format!("{path}: {section}.{}", option.key));
            }
        });
    }
    if found.is_empty() {
        return Ok(None);
    }
    let more = if found.len() > PLAIN_NAMED_MAX {
        format!(" and {} more", found.len() - PLAIN_NAMED_MAX)
    } else {
        String::new()
    };
    found.truncate(PLAIN_NAMED_MAX);
    Ok(Some(format!(
        "it has secret values in plain ({}{more}), and whoever reads upstream has them now. Push a commit without them, \
         give the values over the API, which seals them, and change them where they are used",
        found.join(", ")
    )))
}

impl ConfigRepo {
    /// A file of a commit as text for people: what is secret in it is not shown.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn read_shown(&self, commit: &CommitId, path: &str) -> Result<Option<String>> {
        crate::refs::check_path(path)?;
        self.bare.with(|repo| {
            let top = crate::bare::tree_of(repo, commit)?;
            match read_in(repo, &top, path)? {
                Some(bytes) => shown(repo, &top, path, bytes).map(Some),
                None => Ok(None),
            }
        })
    }
}
