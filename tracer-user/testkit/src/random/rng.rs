//! Numbers that are the same in every run.

use super::plan::Keeps;

/// SplitMix64: small, and the same everywhere.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut rng = Self(seed ^ number.wrapping_mul(0xA24B_AED4_963E_E407));
        // Neighbouring numbers must not begin alike.
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }

    /// Bytes: nothing, a line, around a pipe's capacity, or of any magnitude up to 64 MiB.
    pub(super) fn size(&mut self) -> u64 {
        match self.below(5) {
            0 => 0,
            1 => 1 + self.below(200),
            2 => 65536 - 50 + self.below(100),
            _ => {
                let magnitude = 1 << self.below(26);
                magnitude + self.below(magnitude)
            }
        }
    }

    /// Milliseconds.
    pub(super) fn pause(&mut self) -> u64 {
        if self.below(3) == 0 {
            1 + self.below(300)
        } else {
            0
        }
    }

    pub(super) fn jobs(&mut self) -> Vec<Keeps> {
        let count = 1 + self.below(3);
        (0..count)
            .map(|_| self.pick(&[Keeps::Stdout, Keeps::Stderr, Keeps::Both]))
            .collect()
    }
}
