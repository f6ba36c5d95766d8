//! What a network does to packets, by the dice: loss, duplication, reordering, on one line or on all.

use std::collections::VecDeque;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::SeedableRng;

use super::Random;

/// How likely what is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Share of the packets that one line loses: 0 to 1.
    pub loss: f64,
    /// Share of the packets that a line brings twice.
    pub duplicates: f64,
    /// Share of the packets that come up to three packets late.
    pub reordering: f64,
}

/// The dice of one line.
#[derive(Debug)]
pub struct Impairments {
    random: Random,
    impairment: Impairment,
    /// Packets that are held back, and after how many others they go out.
    late: VecDeque<(u32, Vec<u8>)>,
    /// Packets lost, and brought twice.
    lost: u64,
    duplicated: u64,
}

impl Impairments {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64, impairment: Impairment) -> Self {
        let random = Random(Pcg64Mcg::seed_from_u64(seed));
        Self { random, impairment, late: VecDeque::new(), lost: 0, duplicated: 0 }
    }

    /// Throws the dice once.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && f64::from(self.random.next()) < share * 2f64.powi(32)
    }

    /// What the line brings when this packet is put into it; `lost`: it is lost whatever the dice say. Returns whether the packet
    /// is lost.
    pub fn pass(&mut self, packet: &[u8], lost: bool, mut bring: impl FnMut(&[u8])) -> bool {
        let Impairment { loss, duplicates, reordering } = self.impairment;
        // All dice are thrown for each packet, so that one share does not change what another does.
        let (is_lost, is_twice, is_late) = (self.happens(loss), self.happens(duplicates), self.happens(reordering));
        if lost || is_lost {
            self.lost += 1;
        } else if is_late {
            // This one counts, too.
            let after = 2 + self.random.below(3);
            self.late.push_back((after, packet.to_vec()));
        } else {
            bring(packet);
            if is_twice {
                self.duplicated += 1;
                bring(packet);
            }
        }
        self.late.retain_mut(|(after, packet)| {
            *after = after.saturating_sub(1);
            if *after == 0 {
                bring(packet);
            }
            *after > 0
        });
        lost || is_lost
    }

    /// Brings what is still held back.
    pub fn finish(&mut self, mut bring: impl FnMut(&[u8])) {
        self.late.drain(..).for_each(|(_, packet)| bring(&packet));
    }

    /// Packets that were lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Packets that were brought twice.
    pub fn duplicated(&self) -> u64 {
        self.duplicated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(impairment: Impairment, packets: u16) -> (Vec<u16>, u64, u64) {
        let (mut line, mut out) = (Impairments::new(7, impairment), Vec::new());
        let mut bring = |packet: &[u8]| out.push(u16::from_be_bytes([packet[0], packet[1]]));
        (0..packets).for_each(|n| _ = line.pass(&n.to_be_bytes(), false, &mut bring));
        line.finish(&mut bring);
        (out, line.lost(), line.duplicated())
    }

    #[test]
    fn a_line_loses_doubles_and_delays_about_as_much_as_asked_and_tells_it_truly() {
        let (out, lost, doubled) = run(Impairment { loss: 0.1, duplicates: 0.1, reordering: 0.1 }, 10_000);
        assert!((800..1200).contains(&lost) && (600..1100).contains(&doubled), "{lost} {doubled}");
        assert_eq!(out.len() as u64, 10_000 - lost + doubled);
        let late = out.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!((600..1100).contains(&late), "{late}");
        let mut distinct = out.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len() as u64, 10_000 - lost);
        assert_eq!(run(Impairment { loss: 0.1, duplicates: 0.1, reordering: 0.1 }, 10_000).0, out, "the same dice");
        assert_eq!(run(Impairment::default(), 100).0, (0..100).collect::<Vec<_>>());
    }
}
