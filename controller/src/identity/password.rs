//! Passwords: argon2id, hashed off the runtime's threads, a few at a time.
//!
//! A hash takes 19 MiB and some tens of ms on purpose; so many callers at once would take the
//! machine. Never here: a password that is kept, or that reaches a log.

use super::Refused;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use argon2::{Argon2, Params};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Hashes made at once: one of two small cores stays free for everybody else.
const AT_ONCE: usize = 1;
/// Who has waited so long is told to come again.
const WAIT: Duration = Duration::from_secs(5);
/// Callers who may wait; more are told to come again at once.
const WAITING_MAX: usize = 32;

static TURN: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONCE)));
static QUEUE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(WAITING_MAX));
/// Checked where there is no user, so that his absence takes as long as a wrong password.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hashed("nobody").ok());

fn hashed(password: &str) -> Result<String, argon2::password_hash::Error> {
    Ok(hasher().hash_password(password.as_bytes())?.to_string())
}

/// OWASP's first choice for argon2id: 19 MiB, two passes.
fn hasher() -> Argon2<'static> {
    Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, Params::default())
}

/// What is kept of a password.
///
/// # Errors
/// [`Refused::Busy`]; [`Refused::Away`] if it cannot be hashed.
pub async fn hash(password: String) -> Result<String, Refused> {
    let hash = in_turn(move || hashed(&password)).await?;
    hash.map_err(|error| Refused::Away(error.to_string().into()))
}

/// Whether a password has this hash; takes its time where there is none too.
///
/// # Errors
/// [`Refused::Busy`].
pub async fn matches(password: String, kept: Option<String>) -> Result<bool, Refused> {
    in_turn(move || {
        let there = kept.is_some();
        let Some(kept) = kept.or_else(|| NOBODY.clone()) else { return false };
        let Ok(hash) = PasswordHash::new(&kept) else { return false };
        hasher().verify_password(password.as_bytes(), &hash).is_ok() && there
    })
    .await
}

async fn in_turn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    let _place = QUEUE.try_acquire().map_err(|_| Refused::Busy)?;
    let turn = tokio::time::timeout(WAIT, TURN.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(Refused::Busy) };
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    done.await.map_err(|error| Refused::Away(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_matches() {
        let hash = hash("correct horse".to_owned()).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let check = async |password: &str, kept: Option<&String>, expect: bool| {
            assert_eq!(matches(password.to_owned(), kept.cloned()).await.expect("an answer"), expect, "{password}");
        };
        check("correct horse", Some(&hash), true).await;
        check("correct hors", Some(&hash), false).await;
        check("nobody", None, false).await;
        check("x", Some(&"no hash".to_owned()), false).await;
    }
}
