//! A set of pieces, as a node tells which ones it holds.

use std::ops::RangeInclusive;

use super::PieceIndex;

/// Which of an object's pieces are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceSet {
    held: Vec<bool>,
    missing: PieceIndex,
}

impl PieceSet {
    /// No piece of `count`.
    pub fn none(count: PieceIndex) -> Self {
        Self { held: vec![false; count as usize], missing: count }
    }

    /// Every piece of `count`.
    pub fn all(count: PieceIndex) -> Self {
        Self { held: vec![true; count as usize], missing: 0 }
    }

    /// The pieces of `count` that the ranges name; numbers beyond are left out.
    pub fn from_ranges(
        count: PieceIndex,
        ranges: impl IntoIterator<Item = RangeInclusive<PieceIndex>>,
    ) -> Self {
        let mut set = Self::none(count);
        for range in ranges {
            let end = (*range.end()).min(count.saturating_sub(1));
            for index in *range.start()..=end {
                set.insert(index);
            }
        }
        set
    }

    /// Adds a piece; one beyond the count is left out.
    pub fn insert(&mut self, index: PieceIndex) {
        if let Some(held) = self.held.get_mut(index as usize).filter(|held| !**held) {
            *held = true;
            self.missing -= 1;
        }
    }

    /// Takes a piece out.
    pub fn remove(&mut self, index: PieceIndex) {
        if let Some(held) = self.held.get_mut(index as usize).filter(|held| **held) {
            *held = false;
            self.missing += 1;
        }
    }

    /// Whether the piece is in the set.
    pub fn contains(&self, index: PieceIndex) -> bool {
        self.held.get(index as usize).copied().unwrap_or(false)
    }

    /// How many pieces are in the set.
    pub fn count(&self) -> usize {
        self.held.iter().filter(|held| **held).count()
    }

    /// Whether every piece of `other` is in the set.
    pub fn includes(&self, other: &Self) -> bool {
        (0..).zip(&other.held).all(|(index, held)| !held || self.contains(index))
    }

    /// Whether no piece is missing.
    pub const fn is_all(&self) -> bool {
        self.missing == 0
    }

    /// The maximal runs of pieces, ascending.
    pub fn ranges(&self) -> Vec<RangeInclusive<PieceIndex>> {
        let mut ranges: Vec<RangeInclusive<PieceIndex>> = Vec::new();
        for (index, _) in (0..).zip(&self.held).filter(|(_, held)| **held) {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == index => *last = *last.start()..=index,
                _ => ranges.push(index..=index),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_sets_are_two_spellings_of_one_thing() {
        let ranges = vec![0..=2, 5..=5, 7..=9];
        let set = PieceSet::from_ranges(10, ranges.clone());
        assert_eq!(set.ranges(), ranges);
        assert!(set.contains(1) && set.contains(5) && !set.contains(6) && !set.contains(10));
        assert!(!set.is_all());
        assert!(PieceSet::all(10).is_all());
        assert_eq!(PieceSet::all(10).ranges(), vec![0..=9]);
        assert!(PieceSet::none(10).ranges().is_empty());
    }

    #[test]
    fn what_is_taken_out_is_missing_once() {
        let mut set = PieceSet::all(2);
        set.remove(1);
        set.remove(1);
        set.remove(7);
        assert_eq!((set.ranges(), set.is_all()), (vec![0..=0], false));
        set.insert(1);
        assert!(set.is_all());
    }

    #[test]
    fn numbers_beyond_the_object_are_left_out() {
        assert_eq!(PieceSet::from_ranges(3, [2..=u32::MAX, 7..=9]).ranges(), vec![2..=2]);
        assert!(PieceSet::from_ranges(0, [0..=0]).ranges().is_empty());
    }
}
