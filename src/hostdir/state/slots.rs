//! How do ids and table slots go together? Slots are reused, ids never.

/// Bits of an id that say the slot; the rest counts the slot's uses.
const SLOT_BITS: u32 = 24;

/// The id of a slot at its `uses`-th use. Use 0 is kept for the root node, whose id must be 1.
pub(crate) fn id(slot: usize, uses: u64) -> u64 {
    slot as u64 | uses << SLOT_BITS
}

/// The slot of an id.
pub(crate) fn slot(id: u64) -> usize {
    usize::try_from(id & ((1 << SLOT_BITS) - 1)).unwrap_or(0)
}

/// Free slots of one table; the memory of what was freed comes before slots never used.
pub(crate) struct FreeSlots {
    freed: Vec<u32>,
    end: u32,
    capacity: u32,
}

impl FreeSlots {
    /// `freed` are free slots below `end`; slots from `end` up to `capacity` were never used.
    pub(crate) fn new(freed: Vec<u32>, end: u32, capacity: usize) -> Self {
        Self { freed, end, capacity: u32::try_from(capacity).unwrap_or(u32::MAX) }
    }

    /// Takes a slot; the second value is the new end of the used part.
    pub(crate) fn take(&mut self) -> Option<(u32, u32)> {
        if let Some(slot) = self.freed.pop() {
            return Some((slot, self.end));
        }
        if self.end >= self.capacity {
            return None;
        }
        self.end += 1;
        Some((self.end - 1, self.end))
    }

    pub(crate) fn give_back(&mut self, slot: u32) {
        self.freed.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_slot_one_and_id_one() {
        assert_eq!((id(1, 0), slot(1)), (1, 1));
    }

    #[test]
    fn an_id_of_a_reused_slot_is_new_and_leads_to_the_same_slot() {
        let ids: Vec<u64> = (1..100).map(|uses| id(77, uses)).collect();
        assert!(ids.iter().all(|id| slot(*id) == 77));
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn slots_end_at_the_capacity_and_come_back() {
        let mut slots = FreeSlots::new(vec![1], 2, 3);
        assert_eq!(slots.take(), Some((1, 2)));
        assert_eq!(slots.take(), Some((2, 3)));
        assert_eq!(slots.take(), None);
        slots.give_back(2);
        assert_eq!(slots.take(), Some((2, 3)));
    }
}
