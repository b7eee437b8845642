//! What is known about the endpoint: whether it ever answered, and how it pushes back.
//!
//! A 500 is news about an item, a 429 about the route. Here the second kind is turned into
//! pauses for everybody, and into the decision to give up.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff;
use crate::words::verdict::{Failure, FailureKind};

/// So many refused connections before any answer mean that nobody is there.
const DEAD_AFTER: u32 = 3;
/// So many "not found" before any usable answer mean that the address is wrong.
const NOTHING_THERE_AFTER: u32 = 5;
/// So many push-backs without an answer between them mean the route and not just bad luck.
const STREAK: u32 = 3;

/// The endpoint's state, shared by all attempts.
pub struct Route {
    /// How long the route may push back without a single good answer.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Any HTTP response ever came.
    heard: bool,
    /// Any usable answer ever came.
    served: bool,
    /// Times that nothing was found before the first usable answer.
    not_found: u32,
    /// Connections refused before the first response.
    refused: u32,
    /// Push-backs since the last good answer, one for each pause.
    streak: u32,
    /// When the streak began.
    pushed_back_since: Option<Instant>,
    /// Requests sent before this belong to a wave that was judged already.
    judged: Option<Instant>,
}

/// What to do about a push-back.
#[derive(Debug, PartialEq, Eq)]
pub enum PushBack {
    /// Let everybody wait.
    Pause(Duration),
    /// Let only this item wait.
    ItemOnly,
    /// Stop the run.
    GiveUp,
}

impl Route {
    pub fn new(patience: Duration) -> Self {
        Route {
            patience,
            state: Mutex::default(),
        }
    }

    /// Notes a response that shows the endpoint at work.
    pub fn answered(&self) {
        let mut state = self.lock();
        state.heard = true;
        state.streak = 0;
        state.pushed_back_since = None;
    }

    /// Notes a usable answer: the address is right.
    pub fn served(&self) {
        self.lock().served = true;
    }

    /// Notes that the endpoint knew no such model or address, and tells whether that is all it
    /// ever says: then the address is wrong, whatever models the lines name.
    pub fn nothing_found(&self) -> bool {
        let mut state = self.lock();
        state.not_found += 1;
        !state.served && state.not_found >= NOTHING_THERE_AFTER
    }

    /// Judges a push-back of a request that was sent at `sent`. `asked` is the wait that the
    /// server asked for.
    pub fn pushed_back(
        &self,
        failure: &Failure,
        asked: Option<Duration>,
        sent: Instant,
        random: f64,
    ) -> PushBack {
        let now = Instant::now();
        let mut state = self.lock();
        if failure.kind == FailureKind::Unreachable {
            if !state.heard {
                state.refused += 1;
                return if state.refused >= DEAD_AFTER {
                    PushBack::GiveUp
                } else {
                    PushBack::ItemOnly
                };
            }
        } else {
            state.heard = true;
        }
        let since = *state.pushed_back_since.get_or_insert(now);
        if asked.is_some_and(|asked| asked > self.patience) || now - since > self.patience {
            return PushBack::GiveUp;
        }
        // A wait of nothing is none: it must not keep the pauses from growing.
        if let Some(asked) = asked.filter(|asked| !asked.is_zero()) {
            let wait = asked + backoff::stagger(asked, random);
            state.judged = state.judged.max(Some(now + wait));
            return PushBack::Pause(wait);
        }
        if state.judged.is_some_and(|judged| sent < judged) {
            return PushBack::ItemOnly;
        }
        state.streak += 1;
        if state.streak < STREAK {
            return PushBack::ItemOnly;
        }
        let wait = backoff::delay(state.streak - STREAK + 1, 0.5 + random / 2.0);
        state.judged = Some(now + wait);
        PushBack::Pause(wait)
    }

    /// Tells whether an item that was pushed back again and again since then has waited enough.
    pub fn out_of_patience(&self, since: Instant) -> bool {
        since.elapsed() > self.patience
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1800);

    fn failure(kind: FailureKind) -> Failure {
        Failure {
            kind,
            message: String::new(),
            http_status: None,
            code: None,
        }
    }

    fn push(route: &Route, kind: FailureKind, asked: Option<u64>) -> PushBack {
        route.pushed_back(
            &failure(kind),
            asked.map(Duration::from_secs),
            Instant::now(),
            0.0,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn three_refusals_before_any_answer_end_the_run() {
        let route = Route::new(PATIENCE);
        assert_eq!(
            push(&route, FailureKind::Unreachable, None),
            PushBack::ItemOnly
        );
        assert_eq!(
            push(&route, FailureKind::Unreachable, None),
            PushBack::ItemOnly
        );
        assert_eq!(
            push(&route, FailureKind::Unreachable, None),
            PushBack::GiveUp
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answered_before_may_be_away_for_a_while() {
        let route = Route::new(PATIENCE);
        route.answered();
        let mut pauses = 0;
        let start = Instant::now();
        loop {
            match push(&route, FailureKind::Unreachable, None) {
                PushBack::Pause(wait) => tokio::time::sleep(wait).await,
                PushBack::ItemOnly => tokio::time::sleep(Duration::from_secs(1)).await,
                PushBack::GiveUp => break,
            }
            pauses += 1;
        }
        assert!(start.elapsed() > PATIENCE);
        assert!(pauses < 100, "{pauses} probes");
    }

    #[tokio::test(start_paused = true)]
    async fn lone_push_backs_among_answers_do_not_pause_the_route() {
        let route = Route::new(PATIENCE);
        for _ in 0..50 {
            assert_eq!(
                push(&route, FailureKind::Overloaded, None),
                PushBack::ItemOnly
            );
            route.answered();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_wave_of_push_backs_pauses_once() {
        let route = Route::new(PATIENCE);
        let sent = Instant::now();
        let judge = |_| route.pushed_back(&failure(FailureKind::RateLimit), None, sent, 0.0);
        let pauses = (0..64)
            .map(judge)
            .filter(|it| matches!(it, PushBack::Pause(_)))
            .count();
        assert_eq!(pauses, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_own_wait_is_kept_with_a_stagger_on_top() {
        let route = Route::new(PATIENCE);
        let asked = Duration::from_secs(20);
        let PushBack::Pause(wait) = route.pushed_back(
            &failure(FailureKind::RateLimit),
            Some(asked),
            Instant::now(),
            0.5,
        ) else {
            panic!()
        };
        assert_eq!(wait, Duration::from_secs(21));
    }

    #[tokio::test(start_paused = true)]
    async fn an_absurd_wait_ends_the_run_instead_of_sleeping_for_years() {
        let route = Route::new(PATIENCE);
        let asked = Some(Duration::MAX);
        let judged =
            route.pushed_back(&failure(FailureKind::RateLimit), asked, Instant::now(), 1.0);
        assert_eq!(judged, PushBack::GiveUp);
    }
}
