//! Identifiers and names, checked where they enter.
//!
//! Names end up in host names, git refs, file paths and DNS, so one narrow alphabet serves all of
//! them: lower-case letters, digits and inner hyphens. Everything that could mean something to a
//! path, a ref or a shell (`/`, `..`, `&`, `@`, control characters) is outside of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A topology's name: with component and ordinal it must fit one DNS label (63 octets).
pub const TOPOLOGY_NAME_MAX: usize = 30;
/// A component's or submodule's name: see [`TOPOLOGY_NAME_MAX`].
pub const COMPONENT_NAME_MAX: usize = 20;
/// An availability zone's name.
pub const ZONE_NAME_MAX: usize = 20;
/// An id: UUIDs and derived node ids are far below; anything longer is not ours.
pub const ID_MAX: usize = 64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub String);
        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str { &self.0 }
        }
        impl From<&str> for $name { fn from(s: &str) -> Self { Self(s.to_owned()) } }
        impl From<String> for $name { fn from(s: String) -> Self { Self(s) } }
    };
}
id!(
    /// A node: one place in a topology. It survives the replacement of its host.
    NodeId
);
id!(
    /// A component: one cluster inside a topology.
    ComponentId
);
id!(
    /// A topology: components that belong together, in one availability zone.
    TopologyId
);
id!(
    /// A job: one request and all the work it causes.
    JobId
);
id!(
    /// A guest command on one node.
    CommandId
);
id!(
    /// A host of the pool.
    HostId
);

/// Why a name was refused, in words for the person who chose it; `None` if it is fine.
#[must_use]
pub fn name_fault(what: &str, name: &str, max: usize) -> Option<String> {
    if name.is_empty() {
        return Some(format!("{what} must not be empty"));
    }
    let length = name.chars().count();
    if length > max {
        return Some(format!("{what} has {length} characters; at most {max} are allowed"));
    }
    if let Some(bad) = name.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
        return Some(format!("{what} contains {bad:?}; allowed are a-z, 0-9 and '-' inside"));
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Some(format!("{what} must not begin or end with '-'"));
    }
    None
}

/// Whether a text may be used as an id in a path or a query: `[A-Za-z0-9-]{1,64}`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=ID_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, ok: bool| assert_eq!(name_fault("name", name, 30).is_none(), ok, "{name:?}");
        check("test-1", true);
        check("a", true);
        check("", false);
        check("-a", false);
        check("a-", false);
        check("Test", false);
        check("a/b", false);
        check("..", false);
        check("a&b", false);
        check("a@b", false);
        check("a\u{7}", false);
        check("ä", false);
        check(&"a".repeat(30), true);
        check(&"a".repeat(300), false);
    }
}
