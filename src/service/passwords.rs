//! Passwords, as argon2id hashes in PHC strings. Hashing takes memory and a core, so it takes a permit too: ten log-ins
//! at once wait for each other instead of taking ten times the memory.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::SaltString,
};
use tokio::sync::Semaphore;

use crate::base::{blocking, limits, rng::Rng, secret::Secret};

/// Hashes and checks passwords, a few at a time.
pub struct Passwords {
    permits: Arc<Semaphore>,
    rng: Rng,
}

impl Passwords {
    pub fn new(rng: Rng) -> Self {
        Self { permits: Arc::new(Semaphore::new(limits::PASSWORD_PERMITS)), rng }
    }

    /// The hash to store for a password, with a salt of its own.
    pub async fn hash(&self, password: Secret<String>) -> Secret<String> {
        let salt = self.rng.bytes::<16>();
        self.work(move || {
            let salt = SaltString::encode_b64(&salt).expect("16 bytes are a salt");
            let hash = hasher().hash_password(password.expose().as_bytes(), &salt);
            Secret::new(
                hash.expect("the parameters and the length of a password are within bounds").to_string(),
            )
        })
        .await
    }

    /// Whether `password` is the one that was hashed. No hash, for a user who doesn't exist or has no password, takes
    /// as long as a wrong password.
    pub async fn verify(&self, password: Secret<String>, hash: Option<Secret<String>>) -> bool {
        self.work(move || {
            let stored = hash.as_ref().map_or(DECOY, |hash| hash.expose());
            let matches = PasswordHash::new(stored)
                .is_ok_and(|parsed| hasher().verify_password(password.expose().as_bytes(), &parsed).is_ok());
            matches && hash.is_some()
        })
        .await
    }

    /// How many hashes are computed or wait for that.
    pub fn queued(&self) -> usize {
        // Each has the permits, or one of them.
        Arc::strong_count(&self.permits) - 1
    }

    async fn work<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the permits are never closed");
        let done = blocking::run(move || {
            let _permit = permit;
            job()
        });
        done.await.expect("hashing doesn't panic, and nobody cancels it")
    }
}

fn hasher() -> Argon2<'static> {
    const LANES: u32 = 1;
    let params = Params::new(limits::PASSWORD_MEMORY_KIB, limits::PASSWORD_PASSES, LANES, None);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("the parameters are within bounds"))
}

/// What the password of a user without one is compared with: a hash of the same cost that belongs to no password.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_password_that_was_hashed_matches() {
        let passwords = Passwords::new(Rng::seeded(1));
        let hash = passwords.hash(secret("correct horse")).await;
        assert!(passwords.verify(secret("correct horse"), Some(hash.clone())).await);
        assert!(!passwords.verify(secret("correct horse "), Some(hash.clone())).await);
        assert!(!passwords.verify(secret("correct horse"), None).await);
        assert!(!passwords.verify(secret("correct horse"), Some(secret("not a hash"))).await);
        assert_ne!(
            passwords.hash(secret("correct horse")).await.expose(),
            hash.expose(),
            "each has its salt"
        );
    }

    #[tokio::test]
    async fn an_unknown_user_costs_what_a_known_one_does() {
        let real = Passwords::new(Rng::seeded(1)).hash(secret("x")).await;
        let (real, decoy) = (PasswordHash::new(real.expose()).unwrap(), PasswordHash::new(DECOY).unwrap());
        assert_eq!(decoy.algorithm, real.algorithm);
        assert_eq!(decoy.version, real.version);
        assert_eq!(decoy.params, real.params);
        assert_eq!(decoy.hash.unwrap().len(), real.hash.unwrap().len());
    }

    #[tokio::test]
    async fn a_flood_waits_for_permits() {
        let passwords = Passwords::new(Rng::seeded(1));
        let held = Arc::clone(&passwords.permits).acquire_many_owned(limits::PASSWORD_PERMITS as u32).await;
        let waiting = passwords.verify(secret("x"), None);
        tokio::pin!(waiting);
        let soon = std::time::Duration::from_millis(50);
        assert!(
            tokio::time::timeout(soon, &mut waiting).await.is_err(),
            "no hash is computed without a permit"
        );
        assert_eq!(passwords.queued(), 2, "the one that is held stands for one");
        drop(held);
        assert!(!waiting.await);
        assert_eq!(passwords.queued(), 0);
    }
}
