//! Random blocks, the same in every run.

/// A generator that repeats its sequence, so that runs can be compared.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "no volume measured has more than 2^32 blocks"
    )]
    pub(crate) fn below(&mut self, bound: u64) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u32
    }

    pub(crate) fn shuffle(&mut self, items: &mut [u32]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// `count` different blocks of a volume of `blocks`, in random order.
    pub(crate) fn distinct(&mut self, blocks: u64, count: u64) -> Vec<u32> {
        let count = usize::try_from(count.min(blocks)).unwrap_or(usize::MAX);
        let mut chosen: Vec<u32> = Vec::new();
        if blocks < count as u64 * 2 {
            chosen.extend((0..=u32::MAX).take_while(|block| u64::from(*block) < blocks));
        }
        while chosen.len() < count {
            let missing = count - chosen.len();
            chosen.extend((0..missing).map(|_| self.below(blocks)));
            chosen.sort_unstable();
            chosen.dedup();
        }
        self.shuffle(&mut chosen);
        chosen.truncate(count);
        chosen
    }
}
