//! The files of `service/` at one commit: read, checked against each other, merged.
//!
//! Every fault is told with its file and place, also of values that are each right and do not fit
//! together. Knows nothing of what is in force.

use super::{Scope, ZonedSettings};
use crate::bare::folder_in;
use crate::effective::{parse_file, repeated, strangers};
use crate::error::{Error, FileFault, Result};
use crate::history::options;
use crate::seed;
use git2::{Repository, Tree};
use std::collections::BTreeMap;
use straas_schemas::config::{ConfigFile, ConfigKind, Effective, Section, effective};
use straas_schemas::settings::{Part, ServiceSettings, SettingFault};
use straas_schemas::topology::is_zone;

/// Most zones with settings of their own; every one is read when `master` moves.
const ZONES_MAX: usize = 256;
/// Where the declarations stand.
pub(super) const DEFAULT: &str = "service/default.json";
/// Where zones stand.
const ZONES: &str = "service/zones";
/// Sections of which an option that `default.json` lacks is declared as built in. Of the others it is
/// left out: that a group of guest commands is not named there means something.
const COMPLETED: [&str; 5] = ["packages", "timing", "limits", "storage", "agents"];

/// The files of a commit.
pub(super) struct Files {
    default: Option<ConfigFile>,
    /// Options that are built in and not in `default`.
    missing: ConfigFile,
    /// Those of parts, by path.
    parts: Vec<(String, ConfigFile)>,
    /// Those of zones with their paths.
    zones: BTreeMap<String, (String, ConfigFile)>,
}

impl Files {
    pub(super) fn built_in() -> Self {
        Self { default: None, missing: seed::service_default(), parts: Vec::new(), zones: BTreeMap::new() }
    }

    /// What stands in a tree, with every fault of what cannot be read or is read by nobody.
    pub(super) fn of(repo: &Repository, top: &Tree<'_>) -> Result<Self> {
        let mut faults = Vec::new();
        let mut take = |path: String| match parse_file(repo, top, &path) {
            Ok(file) => Ok(file.map(|file| (path, file))),
            Err(Error::Invalid { faults: more }) => {
                faults.extend(more);
                Ok(None)
            }
            Err(other) => Err(other),
        };
        let default = take(DEFAULT.to_owned())?;
        let mut parts = Vec::new();
        for part in Part::ALL {
            parts.extend(take(format!("service/{}", part.file()))?);
        }
        let mut zones = BTreeMap::new();
        let agent = Part::Agent.file();
        let (mut stray, mut many) = (strays(repo, top, "service", known)?, 0);
        if let Some(folder) = folder_in(repo, top, ZONES)? {
            for entry in &folder {
                let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
                let path = format!("{ZONES}/{name}");
                if entry.kind() != Some(git2::ObjectType::Tree) || !is_zone(&name) {
                    stray.push(path);
                    continue;
                }
                many += 1;
                stray.extend(strays(repo, top, &path, |name| name == agent)?);
                if many <= ZONES_MAX
                    && let Some(found) = take(format!("{path}/{agent}"))?
                {
                    zones.insert(name, found);
                }
            }
        }
        if default.is_none() && faults.is_empty() {
            faults.push(fault(DEFAULT, String::new(), "is missing; put it back on master"));
        }
        if many > ZONES_MAX {
            faults.push(fault(ZONES, String::new(), &format!("has {many} zones; at most {ZONES_MAX} are read")));
        }
        let read = "is read by nobody; there are default.json, api.json, controller.json, agent.json and \
                    zones/{zone}/agent.json";
        faults.extend(stray.iter().map(|path| fault(path, String::new(), read)));
        if !faults.is_empty() {
            return Err(Error::Invalid { faults });
        }
        let default = default.map(|(_, file)| file);
        let missing = default.as_ref().map_or_else(seed::service_default, missing);
        Ok(Self { default, missing, parts, zones })
    }

    /// Every option with its declaration.
    pub(super) fn declared(&self) -> ConfigFile {
        let content = self.default.iter().chain([&self.missing]).flat_map(|file| file.content.clone()).collect();
        ConfigFile { kind: ConfigKind::Ini, content }
    }

    /// The files that count for a zone, the one that wins last.
    pub(super) fn chain(&self, zone: Option<&str>) -> Vec<(&str, &ConfigFile)> {
        let default = self.default.iter().map(|file| (DEFAULT, file));
        let zone = zone.and_then(|zone| self.zones.get(zone));
        default.chain(self.parts.iter().chain(zone).map(|(path, file)| (path.as_str(), file))).collect()
    }

    pub(super) fn merged(&self, own: &Effective) -> Result<ZonedSettings> {
        let declared = self.declared();
        let mut faults = Vec::new();
        let in_file = |path: &str, found: Vec<straas_schemas::Fault>| -> Vec<FileFault> {
            found.into_iter().map(|f| fault(path, f.pointer, &f.message)).collect()
        };
        faults.extend(in_file(DEFAULT, repeated(&declared)));
        let base = effective(&[&declared]).unwrap_or_else(|found| {
            faults.extend(in_file(DEFAULT, found));
            Effective::new()
        });
        for (path, file) in self.parts.iter().chain(self.zones.values()) {
            faults.extend(in_file(path, repeated(file)));
            faults.extend(in_file(path, strangers(&declared, file)));
            faults.extend(misplaced(path, file));
            if let Err(found) = effective(&[&declared, file]) {
                // what is wrong with the declarations was told above
                faults.extend(in_file(path, found).into_iter().filter(|_| !base.is_empty()));
            }
        }
        if !faults.is_empty() {
            faults.sort();
            faults.dedup();
            return Err(Error::Invalid { faults });
        }
        let mut base = base;
        lay(&mut base, own);
        let common = self.scope(&base, &declared, None)?;
        let mut zones = BTreeMap::new();
        for zone in self.zones.keys() {
            match self.scope(&base, &declared, Some(zone)) {
                Ok(scope) => drop(zones.insert(zone.clone(), scope)),
                Err(Error::Invalid { faults: more }) => faults.extend(more),
                Err(other) => return Err(other),
            }
        }
        if faults.is_empty() { Ok(ZonedSettings { common, zones }) } else { Err(Error::Invalid { faults }) }
    }

    fn scope(&self, base: &Effective, declared: &ConfigFile, zone: Option<&str>) -> Result<Scope> {
        let (mut values, chain) = (base.clone(), self.chain(zone));
        for (_, file) in chain.iter().filter(|(path, _)| *path != DEFAULT) {
            let both = effective(&[declared, file]).unwrap_or_default();
            for (section, key) in options(file).into_keys() {
                if let Some(value) = both.get(section).and_then(|keys| keys.get(key)) {
                    values.entry(section.to_owned()).or_default().insert(key.to_owned(), value.clone());
                }
            }
        }
        match ServiceSettings::read(&values) {
            Ok(settings) => Ok(Scope { values, settings }),
            Err(found) => Err(Error::Invalid { faults: found.iter().map(|wrong| placed(&chain, wrong)).collect() }),
        }
    }
}

fn lay(values: &mut Effective, over: &Effective) {
    for (section, keys) in over {
        values.entry(section.clone()).or_default().extend(keys.clone());
    }
}

fn fault(file: &str, pointer: String, message: &str) -> FileFault {
    FileFault { file: file.to_owned(), line: None, pointer, message: message.to_owned() }
}

fn known(name: &str) -> bool {
    name == "default.json" || Part::ALL.iter().any(|part| part.file() == name)
}

/// Paths of configuration files of a folder that have no such name.
fn strays(repo: &Repository, top: &Tree<'_>, folder: &str, known: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let Some(tree) = folder_in(repo, top, folder)? else { return Ok(Vec::new()) };
    let names = tree.iter().map(|entry| String::from_utf8_lossy(entry.name_bytes()).into_owned());
    Ok(names.filter(|name| name.ends_with(".json") && !known(name)).map(|name| format!("{folder}/{name}")).collect())
}

/// The built-in options that a `default.json` leaves out.
fn missing(default: &ConfigFile) -> ConfigFile {
    let (there, built_in) = (options(default), seed::service_default());
    let left_out = |section: Section| {
        let has = default.content.iter().any(|other| other.section == section.section);
        let complete = !has || COMPLETED.contains(&section.section.as_str());
        let name = section.section.clone();
        let options = section.options.into_iter();
        let options = options.filter(|o| complete && !there.contains_key(&(name.as_str(), o.key.as_str()))).collect();
        Section { options, ..section }
    };
    let content = built_in.content.into_iter().map(left_out).filter(|section| !section.options.is_empty()).collect();
    ConfigFile { content, ..built_in }
}

/// Sections that another part reads.
fn misplaced(path: &str, file: &ConfigFile) -> Vec<FileFault> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let each = file.content.iter().enumerate().filter_map(|(s, section)| {
        let part = Part::that_reads(&section.section).filter(|part| part.file() != name)?;
        let message = format!("{} is read from {}; set it there", section.section, part.file());
        Some(fault(path, format!("/content/{s}/section"), &message))
    });
    each.collect()
}

/// A fault of values that do not fit, where the last word about them was said.
fn placed(chain: &[(&str, &ConfigFile)], wrong: &SettingFault) -> FileFault {
    let place = |(path, file): &(&str, &ConfigFile)| {
        file.content.iter().enumerate().filter(|(_, section)| section.section == wrong.section).find_map(
            |(s, section)| {
                let at = section.options.iter().position(|option| wrong.keys.contains(&option.key.as_str()))?;
                Some(fault(path, format!("/content/{s}/options/{at}/value"), &wrong.message))
            },
        )
    };
    chain.iter().rev().find_map(place).unwrap_or_else(|| fault(DEFAULT, String::new(), &wrong.message))
}
