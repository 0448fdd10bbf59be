//! What is asked of the server: a stream of requests that the seed decides.

use std::ops::RangeInclusive;

use fastrand::Rng;

use super::history::Kind;
use super::stamp::SECTOR;

/// Most sectors of a change: up to this length a write is to be whole after a crash.
pub(super) const CHANGE_SECTORS_MAX: usize = (1 << 20) / SECTOR;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Change {
        kind: Kind,
        fua: bool,
        first: usize,
        count: usize,
    },
    Flush,
}

/// What the server can do, and what the run leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    pub(super) flush: bool,
    pub(super) fua: bool,
    pub(super) trim: bool,
    pub(super) write_zeroes: bool,
}

/// Where requests go, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    /// From the start of the disk.
    pub(super) sectors: usize,
    /// The part at its start where half of the requests go, so that they overlap.
    pub(super) hot: usize,
    /// Requests begin and end at multiples of it.
    pub(super) grain: usize,
}

/// The requests of one connection in one round, in the order in which they are sent.
#[derive(Debug)]
pub(super) struct Workload {
    rng: Rng,
    area: Area,
    abilities: Abilities,
    /// One request of so many is a flush; 0 for none.
    flush_one_in: u32,
    /// One change of so many has FUA; 0 for none.
    fua_one_in: u32,
}

/// The generator of what is random in one part of a round: as if each had a seed of its own.
pub(super) fn rng(seed: u64, round: u32, part: u64) -> Rng {
    let mut rng = Rng::with_seed(seed);
    let mixed = rng.u64(..) ^ u64::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut rng = Rng::with_seed(mixed);
    Rng::with_seed(rng.u64(..) ^ part.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

impl Workload {
    pub(super) fn new(
        (seed, round, connection): (u64, u32, u16),
        area: Area,
        abilities: Abilities,
    ) -> Self {
        // How often a round flushes is the same for all its connections: there are rounds that
        // have much to lose, and rounds that have hardly anything. The first one flushes soon, as a
        // run that flushes nothing proves nothing.
        let mut habits = rng(seed, round, u64::from(u16::MAX) + 1);
        let mut one_in = |choices: &[u32]| choices[habits.usize(..choices.len())];
        Self {
            flush_one_in: one_in(match round {
                1 => &[50, 10],
                _ => &[0, 1000, 200, 50, 10],
            }),
            fua_one_in: one_in(&[0, 0, 500, 30]),
            rng: rng(seed, round, connection.into()),
            area,
            abilities,
        }
    }

    fn hits(&mut self, one_in: u32) -> bool {
        one_in > 0 && self.rng.u32(..one_in) == 0
    }

    pub(super) fn next(&mut self) -> Request {
        if self.hits(self.flush_one_in) && self.abilities.flush {
            return Request::Flush;
        }
        let fua = self.hits(self.fua_one_in) && self.abilities.fua;
        let kind = match self.rng.u8(..16) {
            0 if self.abilities.trim => Kind::Trim,
            1 if self.abilities.write_zeroes => Kind::WriteZeroes,
            _ => Kind::Write,
        };
        let (first, count) = self.range();
        Request::Change {
            kind,
            fua,
            first,
            count,
        }
    }

    /// Most are short, a few are as long as can be.
    fn range(&mut self) -> (usize, usize) {
        let hot = self.rng.bool();
        let within = if hot {
            self.area.hot
        } else {
            self.area.sectors
        };
        let longest = match self.rng.u8(..16) {
            0 => CHANGE_SECTORS_MAX,
            1..=4 => CHANGE_SECTORS_MAX / 8,
            _ => CHANGE_SECTORS_MAX / 128,
        };
        let grain = self.area.grain;
        let longest = (longest.min(within) / grain).max(1);
        let count = self.any_length(1..=longest);
        let first = self.rng.usize(0..=within / grain - count);
        (first * grain, count * grain)
    }

    /// Evenly spread over the orders of magnitude, and often a power of two.
    fn any_length(&mut self, range: RangeInclusive<usize>) -> usize {
        let most = *range.end();
        let bits = usize::BITS - most.leading_zeros();
        let power = 1_usize << self.rng.u32(..bits);
        let length = if self.rng.bool() {
            power
        } else {
            self.rng.usize(power..power * 2)
        };
        length.clamp(*range.start(), most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Area = Area {
        sectors: 8192,
        hot: 128,
        grain: 8,
    };
    const ALL: Abilities = Abilities {
        flush: true,
        fua: true,
        trim: true,
        write_zeroes: true,
    };

    fn requests(seed: u64, round: u32, connection: u16, abilities: Abilities) -> Vec<Request> {
        let mut workload = Workload::new((seed, round, connection), AREA, abilities);
        (0..2000).map(|_| workload.next()).collect()
    }

    #[test]
    fn a_seed_decides_everything() {
        let all = requests(1, 1, 0, ALL);
        assert_eq!(all, requests(1, 1, 0, ALL));
        assert_ne!(all, requests(2, 1, 0, ALL));
        assert_ne!(all, requests(1, 2, 0, ALL));
        assert_ne!(all, requests(1, 1, 1, ALL));
    }

    #[test]
    fn the_first_round_flushes_whatever_the_seed() {
        for seed in 0..200 {
            let requests = requests(seed, 1, 0, ALL);
            let first = requests.iter().position(|asked| *asked == Request::Flush);
            assert!(first.is_some_and(|first| first < 1000), "seed {seed}");
        }
    }

    #[test]
    fn requests_stay_in_their_area_and_reach_its_ends() {
        let mut ends = [false; 4];
        let (mut kinds, mut fua, mut flushes) = ([0; 3], 0, 0);
        for round in 0..30 {
            for request in requests(1, round, 0, ALL) {
                let Request::Change {
                    kind,
                    fua: durable,
                    first,
                    count,
                } = request
                else {
                    flushes += 1;
                    continue;
                };
                assert!(count >= AREA.grain && first + count <= AREA.sectors);
                assert!(count <= CHANGE_SECTORS_MAX);
                assert!(first % AREA.grain == 0 && count % AREA.grain == 0);
                ends[0] |= first == 0;
                ends[1] |= first + count == AREA.sectors;
                ends[2] |= first + count == AREA.hot;
                ends[3] |= count == CHANGE_SECTORS_MAX;
                kinds[kind as usize] += 1;
                fua += u32::from(durable);
            }
        }
        assert_eq!(ends, [true; 4]);
        assert!(kinds.iter().all(|count| *count > 1000), "{kinds:?}");
        assert!(fua > 100 && flushes > 100, "{fua} {flushes}");
    }

    #[test]
    fn a_server_is_asked_for_nothing_that_it_cannot_do() {
        let none = Abilities {
            flush: false,
            fua: false,
            trim: false,
            write_zeroes: false,
        };
        for round in 0..10 {
            for request in requests(3, round, 0, none) {
                let write = matches!(
                    request,
                    Request::Change {
                        kind: Kind::Write,
                        fua: false,
                        ..
                    }
                );
                assert!(write, "{request:?}");
            }
        }
    }
}
