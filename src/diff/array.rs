//! The operations that turn one array into another.
//!
//! The work is in two steps that know nothing of each other: an [`Alignment`] says for each new element which old one it
//! continues, if any; [`Walk::array`] turns any alignment into operations: removals from the end, then additions and
//! moves from the front, then what changed inside elements.

use std::fmt;

use super::alignment::{self, Alignment, Origin};
use super::document::{Keys, Walk};
use crate::value::Json;

impl Walk {
    pub(super) fn array(&mut self, old: &[Json], new: &[Json], keys: Keys<'_>) -> fmt::Result {
        let by_key = keys.here().and_then(|key| alignment::by_key(old, new, key));
        let alignment = match by_key {
            Some(alignment) => alignment,
            None => alignment::by_content(old, new, &mut self.work)?,
        };
        self.remove(&alignment)?;
        self.add_and_move(&alignment, new)?;
        for (index, origin) in alignment.origins.iter().enumerate() {
            if let Origin::Like(from) = *origin {
                let (from, index) = (alignment.start + from, alignment.start + index);
                if old[from] == new[index] {
                    continue;
                }
                let depth = self.path.enter_element(index);
                self.value(&old[from], &new[index], keys.element(from, index))?;
                self.path.leave(depth);
            }
        }
        Ok(())
    }

    /// From the end, so that no removal shifts a later one (EDGE J3).
    fn remove(&mut self, alignment: &Alignment) -> fmt::Result {
        let mut goes_on = vec![false; alignment.old_length];
        for from in alignment.origins.iter().filter_map(Origin::old) {
            goes_on[from] = true;
        }
        for index in (0..alignment.old_length)
            .rev()
            .filter(|index| !goes_on[*index])
        {
            let depth = self.path.enter_element(alignment.start + index);
            self.operations.remove(&self.path)?;
            self.path.leave(depth);
        }
        Ok(())
    }

    /// From the front. At each step the array holds, in the order of the new one, the elements that are settled: those
    /// that stay and those handled so far. Between them, where they always were, are the ones still to be moved.
    /// An element is put right behind the one before it in the new order.
    fn add_and_move(&mut self, alignment: &Alignment, new: &[Json]) -> fmt::Result {
        let movers = alignment.movers();
        let staying = alignment.staying();
        let mut waiting = Waiting::new(alignment.old_length, &movers);
        let mut settled_staying: usize = 0;
        for (index, (origin, stays)) in alignment.origins.iter().zip(&alignment.stays).enumerate() {
            if *stays {
                settled_staying += 1;
                continue;
            }
            // Everything waiting in front of the last settled element that stays is in front of our place too.
            let front = settled_staying
                .checked_sub(1)
                .map_or(0, |last| staying[last].0);
            match origin.old() {
                None => {
                    let depth = self
                        .path
                        .enter_element(alignment.start + index + waiting.before(front));
                    self.operations
                        .add(&self.path, &new[alignment.start + index])?;
                    self.path.leave(depth);
                }
                Some(from) => {
                    waiting.take(from);
                    let next = staying.partition_point(|(old, _)| *old < from);
                    // Settled elements in front of it: all that come before the next one that stays, or, when that is not
                    // settled yet, all handled so far and those that stay up to it.
                    let settled = if next < settled_staying {
                        staying[next].1
                    } else {
                        index + next - settled_staying
                    };
                    let here = settled + waiting.before(from);
                    let there = index + waiting.before(front);
                    self.relocate(alignment.start + here, alignment.start + there)?;
                }
            }
        }
        Ok(())
    }

    fn relocate(&mut self, from: usize, to: usize) -> fmt::Result {
        if from == to {
            return Ok(());
        }
        let depth = self.path.enter_element(from);
        let source = self.path.to_string();
        self.path.leave(depth);
        let depth = self.path.enter_element(to);
        self.operations.relocate(&source, self.path.as_str())?;
        self.path.leave(depth);
        Ok(())
    }
}

/// The old indexes of elements still to be moved: a binary indexed tree, so that a thousand moves among a hundred
/// thousand elements cost a logarithm each.
struct Waiting(Vec<usize>);

impl Waiting {
    fn new(length: usize, movers: &[usize]) -> Self {
        if movers.is_empty() {
            return Self(Vec::new());
        }
        let mut tree = vec![0; length + 1];
        for mover in movers {
            tree[mover + 1] += 1;
        }
        for at in 1..tree.len() {
            let parent = at + (at & at.wrapping_neg());
            if parent < tree.len() {
                tree[parent] += tree[at];
            }
        }
        Self(tree)
    }

    /// How many have an old index below `index`.
    fn before(&self, index: usize) -> usize {
        let mut at = index.min(self.0.len().saturating_sub(1));
        let mut count = 0;
        while at > 0 {
            count += self.0[at];
            at &= at - 1;
        }
        count
    }

    /// `index` waits no longer. It must have waited.
    fn take(&mut self, index: usize) {
        let mut at = index + 1;
        while at < self.0.len() {
            self.0[at] -= 1;
            at += at & at.wrapping_neg();
        }
    }
}
