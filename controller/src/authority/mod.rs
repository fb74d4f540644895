//! The certificate authorities in force at this controller, and who is told to trust them.
//!
//! As long as the authority was never exchanged it is the one in `data_dir/ca`. From the first exchange on the record in
//! the database counts, for all controllers alike; private keys in it are sealed with the key of the secrets, which all of
//! them have. The folder then gets the one that is left, so that it and a copy of it are never an earlier one's.
//!
//! What is in force is swapped as a whole. A certificate is recorded before it is made, and only while the authority that
//! signs it is the one that issues (`issue`): a controller that has not heard of a change makes none by the one before.
//!
//! Never here: which step is next (`rotation.rs`), nor when to look (`tasks/authority.rs`).

mod issue;
pub mod rotation;
mod sights;

use crate::ca::{self, Ca, CaError, Pair};
use crate::error::Error;
use crate::tls::Tls;
use arc_swap::ArcSwap;
pub use issue::{Issued, issue};
pub use sights::Sights;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use straas_repos::Vault;
use straas_schemas::Digest;
use straas_store::{AuthorityKept, AuthorityRecord, Store};

/// Under which name keys of authorities are sealed: no option of a configuration can have it.
const SEALED_AS: &str = "\u{0}authority";

/// An authority by its certificate.
#[derive(Clone)]
pub struct Known {
    /// SHA-256 of the certificate.
    pub fingerprint: Digest,
    /// The certificate, PEM.
    pub certificate_pem: String,
}

/// What is in force.
pub struct InForce {
    /// How far an exchange is; none as long as there never was one.
    pub record: Option<AuthorityRecord>,
    /// The one that issues.
    pub issuer: Arc<Ca>,
    /// Those whose certificates are good.
    pub trusted: Vec<Known>,
    /// Earlier ones.
    pub retired: Vec<Known>,
    /// What leads from earlier ones to the one that issues, PEM: see `ca.rs`.
    pub bridges: Vec<String>,
    /// TLS of the agent port with these; none where there is no port.
    pub tls: Option<Arc<Tls>>,
}

impl Known {
    fn new(fingerprint: &Digest, certificate_pem: &str) -> Self {
        Self { fingerprint: fingerprint.clone(), certificate_pem: certificate_pem.to_owned() }
    }
}

impl InForce {
    /// One that was never exchanged.
    fn alone(issuer: Ca) -> Self {
        let known = Known::new(issuer.fingerprint(), issuer.certificate_pem());
        let (issuer, trusted) = (Arc::new(issuer), vec![known]);
        Self { record: None, issuer, trusted, retired: Vec::new(), bridges: Vec::new(), tls: None }
    }

    fn of(record: AuthorityRecord, issuer: Arc<Ca>) -> Self {
        let own = record.issuing().and_then(|kept| kept.bridge_pem.clone());
        let earlier = record.retired.iter().filter_map(|retired| retired.bridge_pem.clone());
        let bridges = own.into_iter().chain(earlier).collect();
        let trusted = record.kept.iter().map(|kept| Known::new(&kept.fingerprint, &kept.certificate_pem)).collect();
        let retired = record.retired.iter().map(|one| Known::new(&one.fingerprint, &one.certificate_pem)).collect();
        Self { record: Some(record), issuer, trusted, retired, bridges, tls: None }
    }

    /// Counts the changes of what is in force.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.revision)
    }

    /// The certificates that agents are to trust, PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        self.trusted.iter().map(|known| format!("{}\n", known.certificate_pem.trim_end())).collect()
    }

    /// What an agent that trusts these is to be told; none if it trusts whom it is to trust, or cannot be told.
    #[must_use]
    pub fn tells(&self, trusts: Option<&[Digest]>) -> Option<String> {
        self.record.as_ref()?;
        let trusts = trusts?;
        let same =
            trusts.len() == self.trusted.len() && self.trusted.iter().all(|known| trusts.contains(&known.fingerprint));
        (!same).then(|| self.bundle_pem())
    }

    /// Whether a certificate of this authority is good.
    #[must_use]
    pub fn is_trusted(&self, authority: &Digest) -> bool {
        self.trusted.iter().any(|known| known.fingerprint == *authority)
    }

    /// Whether a certificate of this authority is to be renewed because another one issues.
    #[must_use]
    pub fn is_outdated(&self, authority: &Digest) -> bool {
        self.record.as_ref().is_some_and(|record| record.issuer != *authority)
    }
}

/// Where authorities are kept on this machine, and where agents reach it.
pub struct Home {
    /// The folder.
    pub dir: PathBuf,
    /// What seals and opens keys.
    pub vault: Arc<Vault>,
    /// Addresses of the agent port, for its certificate.
    pub addresses: Vec<IpAddr>,
}

/// The authorities.
pub struct Authorities {
    now: ArcSwap<InForce>,
    home: Option<Home>,
    /// What agents showed and said.
    pub sights: Sights,
    /// Why what is recorded cannot be put in force here, if so.
    trouble: Mutex<Option<String>>,
    /// Of two looks the later one is not overtaken.
    turn: tokio::sync::Mutex<()>,
}

impl Authorities {
    /// As they are recorded, or the one in the folder, which is made on first use.
    ///
    /// # Errors
    /// They cannot be read, or the key of the one that issues cannot be opened.
    pub async fn open(home: Home, store: &dyn Store) -> Result<Self, Error> {
        let now = match store.authorities().await? {
            Some(record) => home.in_force(record)?,
            None => home.armed(InForce::alone(Ca::open(&home.dir)?))?,
        };
        Ok(Self { home: Some(home), ..Self::with(now) })
    }

    /// This one, as long as it is not exchanged.
    #[must_use]
    pub fn of(ca: Ca) -> Self {
        Self::with(InForce::alone(ca))
    }

    fn with(now: InForce) -> Self {
        Self {
            now: ArcSwap::from_pointee(now),
            home: None,
            sights: Sights::default(),
            trouble: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// What is in force.
    pub fn now(&self) -> Arc<InForce> {
        self.now.load_full()
    }

    /// Why what is recorded cannot be put in force here, if so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts in force what is recorded; whether that is something else than before.
    ///
    /// # Errors
    /// It cannot be read, or the key of the one that issues cannot be opened; then what is in force stays.
    pub async fn refresh(&self, store: &dyn Store) -> Result<bool, Error> {
        let _turn = self.turn.lock().await;
        let Some(record) = store.authorities().await? else { return Ok(false) };
        if record.revision == self.now().revision() {
            return Ok(false);
        }
        let found = match &self.home {
            Some(home) => home.in_force(record),
            None => Ok(InForce::of(record, self.now().issuer.clone())),
        };
        let trouble = found.as_ref().err().map(Error::chain);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        let found = found?;
        let phase = found.record.as_ref().map_or("", |record| record.phase.name());
        tracing::info!(phase, issuer = found.issuer.fingerprint().short(), "authorities in force");
        self.now.store(Arc::new(found));
        // another controller may have written something else of an agent since
        self.sights.forget();
        Ok(true)
    }

    /// Has the folder hold the one that issues, if there is no other: the key of one that was retired leaves this machine.
    ///
    /// # Errors
    /// The disk.
    pub async fn settle(&self) -> Result<(), Error> {
        let now = self.now();
        let alone = now.record.as_ref().is_some_and(|record| record.kept.len() == 1);
        let Some(home) = self.home.as_ref().filter(|_| alone) else { return Ok(()) };
        let dir = home.dir.clone();
        let written = tokio::task::spawn_blocking(move || {
            let there = std::fs::read_to_string(dir.join("ca.pem")).ok();
            if there.as_deref() == Some(now.issuer.certificate_pem()) {
                return Ok(());
            }
            now.issuer.write(&dir)
        });
        Ok(written.await??)
    }

    /// The record as it is, with the authority in force if none was ever exchanged.
    #[must_use]
    pub fn record(&self) -> AuthorityRecord {
        let now = self.now();
        now.record.clone().unwrap_or_else(|| rotation::first(self.kept(&now.issuer, None)))
    }

    /// Another authority than the one that issues, the how many-th, for the record.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn another(&self, number: u32) -> Result<AuthorityKept, CaError> {
        let (issuer, new) = (self.now().issuer.clone(), Ca::make(number)?);
        let bridge = issuer.bridge(&new)?;
        Ok(self.kept(&new, Some(bridge)))
    }

    fn kept(&self, ca: &Ca, bridge_pem: Option<String>) -> AuthorityKept {
        let fingerprint = ca.fingerprint().clone();
        let seal = |home: &Home| home.vault.seal(SEALED_AS, fingerprint.as_str(), ca.key_pem());
        AuthorityKept {
            key_sealed: self.home.as_ref().map(seal).unwrap_or_default(),
            certificate_pem: ca.certificate_pem().to_owned(),
            bridge_pem,
            fingerprint,
        }
    }

    /// The record with its keys sealed by the newest key of the secrets; none if they are.
    #[must_use]
    pub fn resealed(&self, record: &AuthorityRecord) -> Option<AuthorityRecord> {
        let vault = &self.home.as_ref()?.vault;
        let mut next = record.clone();
        for kept in &mut next.kept {
            if let Some(sealed) = vault.resealed(SEALED_AS, kept.fingerprint.as_str(), &kept.key_sealed) {
                kept.key_sealed = sealed;
            }
        }
        (next != *record).then_some(next)
    }
}

impl Home {
    fn in_force(&self, record: AuthorityRecord) -> Result<InForce, Error> {
        let kept = record.issuing().ok_or_else(|| CaError::Read("the record names none that issues".to_owned()))?;
        let issuer = self.issuer(kept)?;
        self.armed(InForce::of(record, Arc::new(issuer)))
    }

    /// With a certificate for the agent port, made now.
    fn armed(&self, in_force: InForce) -> Result<InForce, Error> {
        let tls = Arc::new(Tls::new(&in_force, &self.addresses)?);
        Ok(InForce { tls: Some(tls), ..in_force })
    }

    /// An authority with its key: by the record, or by the folder if that is the same one and the key of the secrets is not.
    fn issuer(&self, kept: &AuthorityKept) -> Result<Ca, CaError> {
        let certificate_pem = kept.certificate_pem.clone();
        if let Some(key_pem) = self.vault.unseal(SEALED_AS, kept.fingerprint.as_str(), &kept.key_sealed) {
            return Ca::of(Pair { certificate_pem, key_pem });
        }
        let there = std::fs::read_to_string(self.dir.join("ca.pem")).ok();
        if there.is_some_and(|there| ca::about(&there).is_ok_and(|about| about.fingerprint == kept.fingerprint)) {
            return Ca::open(&self.dir);
        }
        Err(CaError::Locked { fingerprint: kept.fingerprint.short().to_owned() })
    }
}
