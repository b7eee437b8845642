//! Which items of a file a run is about: all of them, or some chosen at random.

use std::collections::HashSet;

use anyhow::Result;
use fastrand::Rng;
use roaring::RoaringTreemap;

use crate::cli::settings::RunSettings;
use crate::cli::validate::unreadable;
use crate::input::{Census, Reader};
use crate::output::Finished;
use crate::words::money::Usd;

/// What a run is asked to take.
#[derive(Debug, Clone, Copy)]
pub enum Portion {
    Whole,
    /// So many of the good items that have no final row, each as likely as any other.
    Random {
        items: u64,
        seed: u64,
    },
}

/// The items that a run is about.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// `None` for all.
    positions: Option<RoaringTreemap>,
    /// Fingerprints of their ids.
    pub ids: HashSet<u128>,
    /// What asking them cost, attempts without a result included.
    pub spent: Usd,
}

impl Portion {
    /// Chooses; a file that can be read only once is always taken whole.
    pub fn choose(
        self,
        settings: &RunSettings,
        census: Option<&Census>,
        finished: &Finished,
    ) -> Result<Chosen> {
        let (Portion::Random { items, seed }, Some(census)) = (self, census) else {
            return Ok(Chosen::default());
        };
        let cannot = |error| unreadable(&settings.input, &error);
        let reader = Reader::open(&settings.input, &settings.defaults, census);
        let mut reader = reader.map_err(cannot)?;
        let mut reservoir = Reservoir::new(items, seed);
        let end = settings.limit.unwrap_or(u64::MAX);
        while let Some(item) = reader.next_item(end).map_err(cannot)? {
            if finished.row(item.index, &item.id).is_none() {
                reservoir.offer((item.index, item.id.fingerprint()));
            }
        }
        Ok(Chosen {
            positions: Some(reservoir.kept.iter().map(|(index, _)| *index).collect()),
            ids: reservoir.kept.iter().map(|(_, id)| *id).collect(),
            spent: Usd::ZERO,
        })
    }
}

impl Chosen {
    /// Returns how many there are; `None` where it is all of them.
    pub fn count(&self) -> Option<u64> {
        self.positions.as_ref().map(RoaringTreemap::len)
    }

    pub fn contains(&self, index: u64) -> bool {
        self.positions
            .as_ref()
            .is_none_or(|positions| positions.contains(index))
    }
}

/// A random sample of everything that is offered, in the memory of the sample alone.
pub struct Reservoir<T> {
    pub kept: Vec<T>,
    size: u64,
    offered: u64,
    rng: Rng,
}

impl<T> Reservoir<T> {
    pub fn new(size: u64, seed: u64) -> Self {
        Reservoir {
            kept: Vec::new(),
            size,
            offered: 0,
            rng: Rng::with_seed(seed),
        }
    }

    pub fn offer(&mut self, thing: T) {
        self.offered += 1;
        if (self.kept.len() as u64) < self.size {
            self.kept.push(thing);
            return;
        }
        let place = self.rng.u64(..self.offered);
        if let Some(kept) = self.kept.get_mut(place as usize) {
            *kept = thing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_kept_equally_often() {
        let mut times = [0; 20];
        for seed in 0..2000 {
            let mut reservoir = Reservoir::new(5, seed);
            (0..20).for_each(|number| reservoir.offer(number));
            assert_eq!(reservoir.kept.len(), 5);
            reservoir
                .kept
                .iter()
                .for_each(|number: &usize| times[*number] += 1);
        }
        assert!(
            times.iter().all(|kept| (430..570).contains(kept)),
            "{times:?}"
        );
    }

    #[test]
    fn fewer_than_wanted_are_all_kept() {
        let mut reservoir = Reservoir::new(5, 0);
        (0..3).for_each(|number| reservoir.offer(number));
        assert_eq!(reservoir.kept, [0, 1, 2]);
    }
}
