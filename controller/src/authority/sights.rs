//! What agents showed and said at their polls, on its way to the database.
//!
//! An agent says it with every poll, so only what is not recorded yet is kept, of each agent the newest; a controller that
//! dies before it is written hears it again.

use crate::error::Error;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use straas_store::{AgentId, CertificateShown, SHOWN_BATCH_MAX, Store};

/// Agents remembered; then all are forgotten, which costs one write of each.
const KNOWN_MAX: usize = 200_000;

/// See the module.
#[derive(Default)]
pub struct Sights(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// As recorded.
    known: HashMap<AgentId, CertificateShown>,
    /// To be recorded.
    waiting: HashMap<AgentId, CertificateShown>,
}

impl Sights {
    /// An agent showed and said this.
    pub fn saw(&self, shown: CertificateShown) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.known.get(&shown.agent) == Some(&shown) {
            // it says again what it said before something else that waits
            seen.waiting.remove(&shown.agent);
        } else {
            seen.waiting.insert(shown.agent.clone(), shown);
        }
    }

    /// Takes nothing for recorded any more.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.clear();
    }

    /// Writes what waits; whether there was anything.
    ///
    /// # Errors
    /// The store; what was not written waits on.
    pub async fn write(&self, store: &dyn Store) -> Result<bool, Error> {
        let mut any = false;
        loop {
            let batch: Vec<_> = {
                let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                seen.waiting.values().take(SHOWN_BATCH_MAX).cloned().collect()
            };
            if batch.is_empty() {
                return Ok(any);
            }
            store.note_shown(&batch).await?;
            any = true;
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.known.len() > KNOWN_MAX {
                seen.known.clear();
            }
            for shown in batch {
                if seen.waiting.get(&shown.agent) == Some(&shown) {
                    seen.waiting.remove(&shown.agent);
                }
                seen.known.insert(shown.agent.clone(), shown);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use straas_schemas::Digest;
    use straas_store::conformance::World;
    use straas_store::{AuthorityStore as _, MemoryStore};

    #[tokio::test]
    async fn what_an_older_word_to_another_controller_overwrote_is_written_anew() {
        let store = Arc::new(MemoryStore::new());
        let world = World::new(store.clone(), "sights", 1).await;
        let incarnation = world.enrol(0, 1).await;
        let agent = AgentId::Node(world.id(0).clone());
        let by = |authority: &str| {
            let (key, by) = (Digest::sha256(b"key"), Digest::sha256(authority.as_bytes()));
            CertificateShown { agent: agent.clone(), incarnation, key, by, trusts: None }
        };
        let shown = async || store.agent_certificate(&agent).await.expect("read").expect("there").shown_by;
        let (here, there) = (Sights::default(), Sights::default());
        there.saw(by("old"));
        here.saw(by("new"));
        here.write(&*store).await.expect("written");
        there.write(&*store).await.expect("written");
        here.saw(by("new"));
        assert!(!here.write(&*store).await.expect("nothing to write"), "it is taken for recorded");
        assert_eq!(shown().await, Some(Digest::sha256(b"old")));
        here.forget();
        here.saw(by("new"));
        assert!(here.write(&*store).await.expect("written"));
        assert_eq!(shown().await, Some(Digest::sha256(b"new")));
    }
}
