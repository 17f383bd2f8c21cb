//! The only source of randomness. An [`Rng`] is an argument wherever chance matters, so that a seed repeats a run.

use std::sync::{Arc, Mutex, PoisonError};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// Gives random bytes: the system's, or a stream that follows from a seed.
#[derive(Clone)]
pub struct Rng(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<blake3::OutputReader>>),
}

impl Rng {
    /// The operating system's generator.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A stream that the seed determines; clones share its position. For tests and simulation only.
    pub fn seeded(seed: u64) -> Self {
        let stream = blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof();
        Self(Source::Seeded(Arc::new(Mutex::new(stream))))
    }

    /// Fills `buffer` with random bytes.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn fill(&self, buffer: &mut [u8]) {
        match &self.0 {
            Source::System => getrandom::fill(buffer).expect("the kernel gives random bytes"),
            Source::Seeded(stream) => stream.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer),
        }
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A uniformly distributed number below `bound`, which is not zero.
    pub fn below(&self, bound: u64) -> u64 {
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let number = u64::from_be_bytes(self.bytes());
            if number < zone {
                return number % bound;
            }
        }
    }

    /// 256 random bits in URL-safe base64: 43 characters that nobody guesses.
    pub fn token(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.bytes::<32>())
    }

    /// `length` characters drawn from `alphabet`, which is ASCII and not empty.
    pub fn text(&self, length: usize, alphabet: &[u8]) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len() as u64) as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        let (a, b) = (Rng::seeded(7), Rng::seeded(7));
        assert_eq!(a.bytes::<64>(), b.bytes::<64>());
        assert_ne!(a.token(), a.token());
        assert_ne!(Rng::system().bytes::<16>(), Rng::system().bytes::<16>());
    }

    #[test]
    fn below_stays_below() {
        let rng = Rng::seeded(1);
        let drawn: std::collections::BTreeSet<u64> = (0..1_000).map(|_| rng.below(10)).collect();
        assert_eq!(drawn, (0..10).collect());
    }
}
