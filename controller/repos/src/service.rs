//! The settings of the service itself, from `service/` of `master`: merged, checked, kept by commit.
//!
//! ```text
//!  service/default.json                    declares every option; what is missing there is as built in
//!  the controller's own configuration      what it sets counts instead
//!  service/{api,controller,agent}.json     the platform's; each what its part reads
//!  service/zones/{zone}/agent.json         the same for the nodes of one zone
//! ```
//! The later one wins, key by key. A commit that breaks this must not stop the service: the newest good
//! settings stay in force, as with the catalog. Never applies anything: who reads settings asks for
//! the view again.

mod files;

use crate::bare::tree_of;
use crate::cache::locked;
use crate::config::ConfigRepo;
use crate::error::{Error, FileFault, Result};
use crate::history::{last_good, options, shown, since};
use crate::refs::CommitId;
use files::{DEFAULT, Files};
use git2::{Repository, Tree};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use straas_schemas::config::Effective;
use straas_schemas::configuration::EffectiveValue;
use straas_schemas::settings::ServiceSettings;

/// What a value's file is called that no commit sets.
const BUILT_IN: &str = "built in";
/// What a value's file is called that the controller's own configuration sets.
const OWN: &str = "controller.toml";
/// What counts somewhere.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Scope {
    /// Every value.
    pub values: Effective,
    /// Those that StraaS knows.
    pub settings: ServiceSettings,
}

/// The settings of a commit.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ZonedSettings {
    common: Scope,
    zones: BTreeMap<String, Scope>,
}

impl ZonedSettings {
    /// What counts for a zone; without one, or in one that has nothing of its own, what counts everywhere.
    #[must_use]
    pub fn of(&self, zone: Option<&str>) -> &Scope {
        zone.and_then(|zone| self.zones.get(zone)).unwrap_or(&self.common)
    }

    /// What counts everywhere, and in each zone that differs.
    pub fn scopes(&self) -> impl Iterator<Item = (Option<&str>, &Scope)> {
        let zones = self.zones.iter().map(|(zone, scope)| (Some(zone.as_str()), scope));
        std::iter::once((None, &self.common)).chain(zones)
    }
}

/// The settings in force.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// The newest commit of `master`.
    pub head: CommitId,
    /// The commit that is in force: `head` if that is good; `None` if none of the recent history is,
    /// and what is built in counts, with the controller's own configuration.
    pub commit: Option<CommitId>,
    /// Its settings.
    pub service: Arc<ZonedSettings>,
    /// What is wrong with `head`; empty if it is good.
    pub faults: Vec<FileFault>,
}

/// The view of the last head, made again when the head differs.
#[derive(Default)]
pub(crate) struct ServiceCache(Mutex<Option<ServiceView>>);

impl ServiceCache {
    fn view(&self, repo: &Repository, own: &Effective, head: &CommitId) -> Result<ServiceView> {
        // held while reading, so that one of many callers reads
        let mut known = locked(&self.0);
        if let Some(view) = known.as_ref().filter(|view| view.head == *head) {
            return Ok(view.clone());
        }
        let at = |commit: &CommitId| read(repo, &tree_of(repo, commit)?, own).map(Arc::new);
        let (commit, service, faults) = match at(head) {
            Ok(service) => (Some(head.clone()), service, Vec::new()),
            Err(Error::Invalid { faults }) => {
                let good = match known.take() {
                    Some(ServiceView { commit: Some(commit), service, .. }) => Some((commit, service)),
                    _ => last_good(repo, head, at)?,
                };
                let (commit, service) = match good {
                    Some((commit, service)) => (Some(commit), service),
                    None => (None, Arc::new(built_in(own))),
                };
                let first = faults.first().map(ToString::to_string).unwrap_or_default();
                let in_force = commit.as_ref().map_or(BUILT_IN, CommitId::as_str);
                tracing::error!(%head, in_force, faults = faults.len(), first, "the service's settings on master are broken");
                (commit, service, faults)
            }
            Err(other) => return Err(other),
        };
        let view = ServiceView { head: head.clone(), commit, service, faults };
        *known = Some(view.clone());
        Ok(view)
    }
}

impl ConfigRepo {
    /// The same, with what the controller's own configuration sets, which has been checked.
    #[must_use]
    pub fn with_own_settings(self, own: Effective) -> Self {
        Self { own: Arc::new(own), services: Arc::default(), ..self }
    }

    /// The settings of a commit.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of every file.
    pub fn service(&self, commit: &CommitId) -> Result<ZonedSettings> {
        self.bare.with(|repo| read(repo, &tree_of(repo, commit)?, &self.own))
    }

    /// The settings in force, and what is wrong with `master` if they are not from its newest commit.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn service_view(&self) -> Result<ServiceView> {
        let head = self.head()?;
        self.bare.with(|repo| self.services.view(repo, &self.own, &head))
    }

    /// Every value in force in a zone, or everywhere, with the file and the commit that set it.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn service_origins(&self, view: &ServiceView, zone: Option<&str>) -> Result<Vec<EffectiveValue>> {
        self.bare.with(|repo| {
            let files = match &view.commit {
                Some(commit) => Files::of(repo, &tree_of(repo, commit)?)?,
                None => Files::built_in(),
            };
            let chain = files.chain(zone);
            let mut since_of = Vec::new();
            for (path, file) in &chain {
                since_of.push(match &view.commit {
                    Some(commit) => since(repo, commit.oid()?, path, file)?,
                    None => BTreeMap::new(),
                });
            }
            let values = &view.service.of(zone).values;
            let declared = files.declared();
            let mut out = Vec::new();
            for (name, option) in options(&declared) {
                let (section, key) = name;
                let set = chain.iter().zip(&since_of).rev().find(|((_, file), _)| options(file).contains_key(&name));
                let by_own = self.own.get(section).is_some_and(|keys| keys.contains_key(key));
                let (file, set_by) = match set {
                    Some(((path, _), since)) if *path != DEFAULT || !by_own => (*path, since.get(&name).cloned()),
                    _ if by_own => (OWN, None),
                    _ => (BUILT_IN, None),
                };
                out.push(shown(name, option, values, option.secret, (file, set_by)));
            }
            Ok(out)
        })
    }
}

/// What is wrong with the settings of a tree.
pub(crate) fn faults_of(repo: &Repository, top: &Tree<'_>, own: &Effective) -> Result<Vec<FileFault>> {
    match read(repo, top, own) {
        Ok(_) => Ok(Vec::new()),
        Err(Error::Invalid { faults }) => Ok(faults),
        Err(other) => Err(other),
    }
}

fn read(repo: &Repository, top: &Tree<'_>, own: &Effective) -> Result<ZonedSettings> {
    Files::of(repo, top)?.merged(own)
}

fn built_in(own: &Effective) -> ZonedSettings {
    // both were checked before: the one by a test, the other when it was read
    Files::built_in().merged(own).unwrap_or_default()
}
