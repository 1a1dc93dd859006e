//! Lists of CPUs and memory nodes in the kernel's format, e.g. `0-3,7` (cpuset(7), List format).

use std::ops::RangeInclusive;

/// Parses such a list. None if it is not valid or contains a number not less than `end`.
pub fn ranges(list: &str, end: usize) -> Option<Vec<RangeInclusive<usize>>> {
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < end);
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(first..=last)
    };
    list.split(',').map(range).collect()
}

/// Like [`ranges`], as a bit mask: one bit for each number, lowest first.
pub fn bits(list: &str, end: usize) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for number in ranges(list, end)?.into_iter().flatten() {
        mask.resize(mask.len().max(number / 8 + 1), 0);
        mask[number / 8] |= 1 << (number % 8);
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_numbers_and_ranges() {
        assert_eq!(bits("0", 8), Some(vec![1]));
        assert_eq!(bits("0-2,7, 9", 10), Some(vec![0x87, 2]));
        assert_eq!(ranges("7,0-2", 8), Some(vec![7..=7, 0..=2]));
        for bad in ["", ",", "0,", "3-1", "8", "0-8", "0-10:2/4", "a", "-1", "1-", "0-99999999999"]
        {
            assert_eq!(ranges(bad, 8), None, "{bad}");
        }
    }
}
