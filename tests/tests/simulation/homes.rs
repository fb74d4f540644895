//! The topologies of a history, and where they are.
//!
//! Never here: what must hold between them (`apart.rs`), what is asked for (`requests.rs`).

use crate::dice::Dice;
use crate::zones::ZONES;
use straas_schemas::TopologyId;
use straas_store::TopologyRecord;

/// Names of topologies that are in one zone.
const NAMES: [&str; 3] = ["t", "u", "v"];

/// A topology that there is, or was.
#[derive(Clone)]
pub struct Home {
    pub id: TopologyId,
    /// Unique in its zone.
    pub name: &'static str,
    pub zone: &'static str,
}

impl Home {
    /// The topologies of a history: one in most, two or three in others.
    pub fn some(dice: &mut Dice) -> Vec<Self> {
        let count = [1, 1, 1, 1, 1, 1, 2, 2, 3][dice.below(9)];
        let mut homes: Vec<Self> = Vec::new();
        for own in NAMES.into_iter().take(count) {
            let zone = ZONES[dice.below(ZONES.len())];
            let name = if homes.iter().any(|home| home.zone == zone) { own } else { NAMES[0] };
            homes.push(Self { id: format!("t-{}", homes.len() + 1).into(), name, zone });
        }
        homes
    }

    /// What is recorded of it when it is asked for.
    pub fn record(&self, now: i64) -> TopologyRecord {
        let Self { id, name, zone } = self.clone();
        TopologyRecord {
            id,
            tenant: "acme".into(),
            name: name.into(),
            zone: zone.into(),
            branch: format!("{name}@{zone}"),
            config_commit: "c0".into(),
            deleting: false,
            created_ms: now,
        }
    }
}
