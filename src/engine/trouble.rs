//! Whose an item's troubles are: its own, where others were treated better meanwhile.
//!
//! Pure: it compares what all items had got at one moment with what they had at another.

/// So many push-backs that nobody shared are the item's own failure.
const PUSH_BACKS_ALONE: u32 = 20;

/// What all items have got so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub answers: u64,
    pub push_backs: u64,
}

/// What an item has been through since it was last answered.
#[derive(Debug, Default)]
pub struct Trouble {
    /// The tally when the first request that failed went out, or the first that did so as a probe.
    began: Option<Tally>,
    /// The tally at its last push-back, that one included.
    pushed_back: Option<Tally>,
    push_backs: u32,
    /// Push-backs that nobody shared.
    alone: u32,
    /// Requests that failed as probes of an outage.
    probes: u32,
}

impl Trouble {
    /// Takes in a failure that may be the route's, with the tallies when the request went out and
    /// now, and tells whether others were answered since the trouble began. A first probe begins
    /// it anew: what was before the outage says nothing about it.
    pub fn failed(&mut self, sent: Tally, now: Tally, is_probe: bool) -> bool {
        self.probes += u32::from(is_probe);
        match self.began {
            Some(began) if !is_probe || self.probes > 1 => now.answers > began.answers,
            _ => {
                self.began = Some(sent);
                false
            }
        }
    }

    /// Takes in a push-back, with the tally that counts it, and tells whether it is the item's
    /// alone: since the one before, others were answered and nobody else was pushed back. Under a
    /// limit of requests, others are.
    pub fn pushed_back(&mut self, now: Tally) -> bool {
        let is_alone = self.pushed_back.is_some_and(|last| {
            now.answers > last.answers && now.push_backs == last.push_backs + 1
        });
        self.pushed_back = Some(now);
        self.push_backs += 1;
        self.alone += u32::from(is_alone);
        is_alone
    }

    pub fn push_backs(&self) -> u32 {
        self.push_backs
    }

    pub fn probes(&self) -> u32 {
        self.probes
    }

    /// Tells whether it was pushed back for so long that it is no news about the route.
    pub fn is_given_up(&self) -> bool {
        self.alone >= PUSH_BACKS_ALONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(answers: u64, push_backs: u64) -> Tally {
        Tally {
            answers,
            push_backs,
        }
    }

    #[test]
    fn a_failure_is_its_own_once_others_were_answered_since_the_first() {
        let mut trouble = Trouble::default();
        assert!(!trouble.failed(tally(3, 0), tally(5, 0), false));
        assert!(trouble.failed(tally(5, 0), tally(5, 0), false));
        let mut trouble = Trouble::default();
        assert!(!trouble.failed(tally(3, 0), tally(3, 0), false));
        assert!(!trouble.failed(tally(3, 0), tally(3, 0), false));
    }

    /// Negative control: without the condition on probes, the first one is charged.
    #[test]
    fn a_probe_is_its_own_once_others_were_answered_since_the_first_probe() {
        let mut trouble = Trouble::default();
        trouble.failed(tally(3, 0), tally(5, 0), false);
        assert!(!trouble.failed(tally(7, 0), tally(7, 0), true));
        assert!(!trouble.failed(tally(7, 0), tally(7, 0), true));
        assert!(trouble.failed(tally(7, 0), tally(8, 0), true));
    }

    /// Negative control: with either condition alone, a limit of requests loses items.
    #[test]
    fn a_push_back_is_its_own_where_others_are_answered_and_nobody_else_is_pushed_back() {
        for (next, alone) in [
            (tally(6, 4), true),
            (tally(6, 5), false),
            (tally(5, 4), false),
        ] {
            let mut trouble = Trouble::default();
            assert!(!trouble.pushed_back(tally(5, 3)));
            assert_eq!(trouble.pushed_back(next), alone, "{next:?}");
        }
    }
}
