//! Randomness from the operating system.

use rand_core::{TryCryptoRng, TryRng};
use std::convert::Infallible;

/// The operating system's generator.
///
/// # Security
/// When the system cannot give random bytes the process aborts: a key drawn from anything else would be worse, and
/// an error that a task swallows would leave half a handshake behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRng;

impl TryRng for OsRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        if let Err(e) = getrandom::fill(dst) {
            eprintln!("qsocket: the operating system gives no random bytes: {e}");
            std::process::abort();
        }
        Ok(())
    }
}

impl OsRng {
    /// A number from 0 to below 1, for jitter.
    pub fn unit(mut self) -> f64 {
        let mut bytes = [0; 4];
        let Ok(()) = self.try_fill_bytes(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }
}

impl TryCryptoRng for OsRng {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{CryptoRng, Rng};

    fn draw(rng: &mut impl CryptoRng) -> [u8; 32] {
        let mut out = [0; 32];
        rng.fill_bytes(&mut out);
        out
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(draw(&mut OsRng), draw(&mut OsRng));
        assert_ne!(OsRng.next_u64(), OsRng.next_u64());
    }
}
