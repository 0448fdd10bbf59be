//! The judge, on stories of a few words.

use super::*;

/// A history of sectors 0 and 1, told in letters: `a0` sends the write `a` of sector 0, `a01` of
/// both, `A` answers it, `z0` and `Z` a zeroing, `F` is a flush; and what is there then.
fn tell(story: &str, found: [char; 2]) -> Result<(), String> {
    let mut history = History::default();
    let mut keys = BTreeMap::new();
    for word in story.split(' ') {
        let letter = word.chars().next().unwrap();
        if letter == 'F' {
            let sent = history.tick();
            history.flushed(0, sent, Durable::InLog)?;
        } else if letter.is_ascii_uppercase() {
            history.answer(keys[&letter.to_ascii_lowercase()], true);
        } else {
            let start = u64::from(!word.contains('0'));
            let serial = history.send(0, start, word.len() as u64 - 1, letter != 'z');
            keys.insert(letter, serial);
        }
    }
    let sector = |(lba, letter)| match letter {
        '0' => [0; SECTOR],
        letter => stamp(keys.get(&letter).copied().unwrap_or(99), lba),
    };
    let found: Vec<u8> = (0..).zip(found).flat_map(sector).collect();
    history.settle(&found, Expect::Flushed)
}

#[test]
fn a_history_is_judged_by_what_it_can_have_led_to() {
    let right = [
        ("a0 A b1 B", ['a', 'b']),
        ("a0 A b1 B", ['a', '0']),
        ("a0 A b1 B", ['0', '0']),
        ("a0 b1 A B", ['0', 'b']),
        ("a01 b01 A B", ['a', 'b']),
        ("a0 A b0 c1", ['a', 'c']),
        ("a0 A F b0 B", ['a', '0']),
        ("a0 A z0 Z F", ['0', '0']),
        ("a0 z0 A Z F", ['a', '0']),
        ("a0 A z0 b1", ['0', 'b']),
    ];
    for (story, found) in right {
        assert_eq!(tell(story, found), Ok(()), "{story} gives {found:?}");
    }
    let wrong = [
        ("a0 A b1 B", ['0', 'b']),
        ("a0 A b0 B c1 C", ['a', 'c']),
        ("a01 A b1 B", ['0', 'b']),
        ("a01 A", ['a', '0']),
        ("a0 A F", ['0', '0']),
        ("a0 A b0 B F", ['a', '0']),
        ("a0 A z0 Z F", ['a', '0']),
        ("z0 Z a0 A F", ['0', '0']),
        ("a0 A z0 Z b1 B", ['a', 'b']),
        ("a0 A", ['x', '0']),
    ];
    for (story, found) in wrong {
        assert!(tell(story, found).is_err(), "{story} gives {found:?}");
    }
}
