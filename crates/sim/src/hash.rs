//! A sum over whatever is written to it: two runs of a seed must end with the same one. After FNV-1a (Fowler,
//! Noll and Vo), eight bytes at a time.

use std::fmt;

/// The sum so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fnv(u64);

impl Fnv {
    /// The sum of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// The sum as a number.
    #[must_use]
    pub fn sum(self) -> u64 {
        self.0
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        // The rest has seven bytes at most; its length takes the eighth.
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = u8::try_from(rest.len()).unwrap_or(u8::MAX);
        self.word(u64::from_le_bytes(last));
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}
