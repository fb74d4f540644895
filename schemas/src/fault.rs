//! One fault of an input, with the place it was found at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A fault in a request body: where (JSON Pointer, RFC 6901) and what, for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// JSON Pointer of the offending value; empty for the whole document.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Fault {
    /// A fault at `pointer`.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}
