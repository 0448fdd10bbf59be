//! Numbers of few bytes: seven bits a byte, the lowest first, the highest bit of all but the last set.

/// Bytes of the longest one.
const LEN_MAX: usize = 10;

/// Appends `value`.
pub(super) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

/// Takes the first number off `bytes`; nothing where there is none, or one that is never written.
pub(super) fn read(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for (at, &byte) in (1..LEN_MAX).zip(rest) {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * at);
        if shifted >> (7 * at) != bits {
            return None;
        }
        value |= shifted;
        if byte < 0x80 {
            *bytes = rest.get(at..)?;
            // A last byte of zero says nothing that a shorter number does not.
            return (byte != 0).then_some(value);
        }
    }
    None
}

/// A difference as a number that is small where the difference is, whatever its sign.
pub(super) const fn fold(difference: i64) -> u64 {
    ((difference << 1) ^ (difference >> 63)).cast_unsigned()
}

/// The difference again.
pub(super) const fn unfold(folded: u64) -> i64 {
    (folded >> 1).cast_signed() ^ -((folded & 1).cast_signed())
}

const fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(values in prop::collection::vec(
            prop_oneof![any::<u64>(), 0..300_u64, (0..64_u32).prop_map(|bit| 1 << bit)], 0..20,
        )) {
            let mut bytes = Vec::new();
            values.iter().for_each(|value| write(&mut bytes, *value));
            let mut rest = &bytes[..];
            for value in values {
                prop_assert_eq!(read(&mut rest), Some(value));
            }
            prop_assert_eq!(read(&mut rest), None);
        }

        #[test]
        fn differences_fold_both_ways(difference: i64) {
            prop_assert_eq!(unfold(fold(difference)), difference);
            prop_assert!(fold(difference % 60) < 128);
        }
    }

    #[test]
    fn every_number_has_one_spelling() {
        for wrong in [
            &[0x80, 0][..],
            &[0x81, 0x80, 0],
            &[0x80],
            &[0xff; 9],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert_eq!(read(&mut &wrong[..]), None, "{wrong:x?}");
        }
    }
}
