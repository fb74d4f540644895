//! The two git repositories of a fleet and the packs made of them.
//!
//! ```text
//!  payload embedded in the binary ──first start──► config repo   ──► catalog, effective configs
//!                                 ──first start──► script repo   ──► stage digests, packs ──► agents
//!                                                    │   ▲
//!                                  writes, first ────▼   │──── what others pushed
//!                                                upstream git server, where there is one
//! ```
//! Git is the truth after the first start: a later version of StraaS never overwrites what stands
//! in a repository. Every call names its ref or commit, so the cost of a call does not grow with
//! the number of topologies (one branch each).
//!
//! All methods block (files, zlib, locks; writes to a mirror also on its upstream git server): call them
//! where blocking is allowed. All handles are cheap to clone and may be used from many threads.
//!
//! Never here: HTTP, authorisation, databases, decisions about nodes. A caller has checked who may
//! read or write what; this crate checks that every name is safe for refs and paths.

mod adopt;
mod bare;
mod cache;
mod catalog;
mod checks;
mod config;
mod copy;
mod diff;
mod edit;
mod effective;
mod error;
mod history;
mod import;
mod origin;
mod overlay;
mod packs;
mod refs;
mod reseal;
mod resolve;
mod scripts;
mod secret;
mod seed;
mod service;
mod shape;
mod tags;
mod updates;
mod upstream;
mod vault;

pub use adopt::Adoption;
pub use bare::{Change, Entry, FILE_BYTES_MAX};
pub use catalog::CatalogView;
pub use config::ConfigRepo;
pub use copy::copy_repository;
pub use error::{Disk, Error, FileFault, Result};
pub use packs::{Pack, PackLimits, Packs};
pub use refs::CommitId;
pub use reseal::Resealed;
pub use scripts::ScriptRepo;
pub use service::{Scope, ServiceView, ZonedSettings};
pub use shape::{line_of, shape_faults};
pub use tags::TagFilter;
pub use upstream::{FieldFault, Taken, UpstreamSpec, UpstreamView};
pub use vault::Vault;
