//! A secret answer, kept so that the database does not give it away: sealed with the token of who asked
//! for it, of which the database knows a hash only.

use rand::RngExt as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

/// Seals what one request is answered.
pub struct Seal(Option<LessSafeKey>);

impl Seal {
    /// For who shows this token, and this request of his.
    pub fn of(token: &str, request: &str) -> Self {
        let secret = Salt::new(HKDF_SHA256, request.as_bytes()).extract(token.as_bytes());
        let key = secret.expand(&[b"straas: an answer that is kept"], &AES_256_GCM).map(UnboundKey::from);
        Self(key.ok().map(LessSafeKey::new))
    }

    /// Closes it; none if that cannot be done, and then nothing may be kept.
    pub fn close(&self, open: &[u8]) -> Option<String> {
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        let mut text = open.to_vec();
        let key = self.0.as_ref()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text).ok()?;
        Some(nonce.iter().chain(&text).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Opens it; none if it was closed with another token.
    pub fn open(&self, closed: &str) -> Option<Vec<u8>> {
        let byte = |at: usize| u8::from_str_radix(closed.get(at..at + 2)?, 16).ok();
        let bytes: Vec<u8> = (0..closed.len()).step_by(2).map(byte).collect::<Option<_>>()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let open = self.0.as_ref()?.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
        Some(open.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_opens_it() {
        let closed = Seal::of("token", "request").close(b"the secret").expect("closed");
        assert!(!closed.contains(&"the secret".bytes().map(|b| format!("{b:02x}")).collect::<String>()));
        assert_eq!(Seal::of("token", "request").open(&closed).as_deref(), Some(&b"the secret"[..]));
        assert_ne!(closed, Seal::of("token", "request").close(b"the secret").expect("closed"));
        for (token, request) in [("another", "request"), ("token", "another")] {
            assert_eq!(Seal::of(token, request).open(&closed), None);
        }
        for broken in ["", "00", "zz", "é", &closed[1..], &format!("{}00", &closed[..closed.len() - 2])] {
            assert_eq!(Seal::of("token", "request").open(broken), None, "{broken}");
        }
    }
}
