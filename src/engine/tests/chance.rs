//! Random mixes of everything that can happen, held against what must always be true.

use std::collections::HashSet;
use std::time::Duration;

use super::super::{Phase, window};
use super::money;
use super::scene::{Scene, Seen, ms};
use super::script::{Ask, Say};

/// What the endpoint may say, ordinary answers first.
const SAYS: [Say; 17] = [
    Say::Done,
    Say::Done,
    Say::Done,
    Say::Used(40),
    Say::Failed,
    Say::Hopeless,
    Say::Overloaded,
    Say::Broke,
    Say::Malformed,
    Say::Page,
    Say::Throttled(None),
    Say::Throttled(Some(2)),
    Say::Rejected,
    Say::Filtered,
    Say::Unreachable,
    Say::Silence,
    Say::Denied,
];

/// A run drawn from a seed. Only every fourth may be halted by a refused key.
fn draw(seed: u64) -> Scene {
    let mut random = fastrand::Rng::with_seed(seed);
    let kinds = SAYS.len() - usize::from(!seed.is_multiple_of(4));
    let script = move |ask: Ask| {
        let mix = seed << 32 | ask.item << 8 | u64::from(ask.request);
        let mut random = fastrand::Rng::with_seed(mix);
        (ms(random.u64(0..3000)), SAYS[random.usize(..kinds)])
    };
    let mut scene = Scene::new(random.u64(0..300), Duration::ZERO, |_| Say::Done)
        .timed(script)
        .concurrency(random.usize(1..20))
        .max_retries(random.u32(0..4));
    scene.settings.seed = seed;
    scene.event_queue = random.usize(1..9);
    scene.listening = ms(random.u64(0..20));
    if seed.is_multiple_of(5) {
        scene = scene.with_items(money::priced);
        scene.budget = Some(money::budget(&random.u64(1..40).to_string(), None));
    }
    if random.bool() {
        scene = scene.rpm(random.u32(300..3000));
    }
    if seed.is_multiple_of(3) {
        scene = scene.stop_at(ms(random.u64(0..60_000)), Phase::Draining);
    }
    if seed.is_multiple_of(9) {
        scene = scene.stop_at(ms(random.u64(0..90_000)), Phase::Aborting);
    }
    scene
}

fn assert_invariants(seen: &Seen, items: usize, slots: usize, max_retries: u32, seed: u64) {
    let records = seen.records();
    assert!(seen.peak <= slots, "seed {seed}: {} in flight", seen.peak);
    assert!(
        seen.sent.iter().all(|sent| sent.end.is_some()),
        "seed {seed}"
    );
    assert!(seen.halts() <= 1, "seed {seed}: {} halts", seen.halts());
    assert_eq!(
        seen.halts() == 1,
        seen.ending.halted.is_some(),
        "seed {seed}"
    );
    assert_eq!(
        records.len() == items,
        seen.ending.complete,
        "seed {seed}: {:?}",
        seen.ending
    );
    let asked: HashSet<u64> = seen.sent.iter().map(|sent| sent.item).collect();
    for record in records.values() {
        let attempts = record.attempts;
        assert!(
            (1..=max_retries + 1).contains(&attempts),
            "seed {seed}: {record:?}"
        );
        assert!(asked.contains(&record.index), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_every_item_settles_once_or_stays_pending() {
    for seed in 0..200 {
        let scene = draw(seed);
        let (items, slots) = (scene.entries.len(), scene.settings.concurrency);
        let (max_retries, queue) = (scene.settings.max_retries, scene.event_queue);
        let budget = scene.budget.clone();
        let seen = tokio::time::timeout(Duration::from_secs(86_400), scene.play());
        let seen = seen
            .await
            .unwrap_or_else(|_| panic!("seed {seed} never ends"));
        assert_invariants(&seen, items, slots, max_retries, seed);
        assert!(seen.most_open <= window(slots) + queue + 1, "seed {seed}");
        if let Some(budget) = budget {
            let accounts = budget.accounts();
            assert!(
                accounts.committed() <= budget.limits().limit,
                "seed {seed}: {accounts:?}"
            );
            assert_eq!(accounts.reserved, Default::default(), "seed {seed}");
        }
    }
}
