//! Tokens: 256 random bits shown once; only their SHA-256 is kept.
//!
//! A token of full entropy needs no slow hash. Comparison is of hashes and in constant time.

use rand::RngExt as _;
use std::path::Path;
use straas_schemas::Digest;
use subtle::ConstantTimeEq as _;

/// A new token, 64 hex digits.
#[must_use]
pub fn new_token() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What is kept of a token.
#[must_use]
pub fn hash(token: &str) -> String {
    Digest::sha256(token.as_bytes()).0
}

/// Whether a token has this hash.
#[must_use]
pub fn matches(token: &str, kept: &str) -> bool {
    hash(token).as_bytes().ct_eq(kept.as_bytes()).into()
}

/// The administrator's token of this controller, made on first use in `data_dir/admin.token`,
/// readable by its owner only.
///
/// # Errors
/// The file cannot be read or written.
pub fn admin_token(data_dir: &Path) -> std::io::Result<String> {
    let path = data_dir.join("admin.token");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("{} is empty; remove it to get a new one", path.display()),
        )),
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = new_token();
            crate::ca::write_private(&path, token.as_bytes())?;
            Ok(token)
        }
        Err(error) => Err(error),
    }
}
