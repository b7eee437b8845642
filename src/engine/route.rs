//! What is known about the endpoint, and when requests may go there: whether it ever answered, how
//! it pushes back, and whether it is away.
//!
//! A 400 is news about an item, a 429 about the route, and a 500 may be either. Here news about the
//! route is turned into pauses for everybody, into single probes while nobody is answered, and into
//! the decision to give up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Settings;
use super::backoff;
use super::breaker::{Asked, Blame, Breaker, Recovery};
use super::patience::{Refusing, absurd, overslept, unanswered};
use super::pause::Pause;
use super::trouble::Tally;
use crate::words::event::{Gauges, WaitReason};
use crate::words::verdict::{Failure, FailureKind};

/// So many refused connections before any answer mean that nobody is there.
const DEAD_AFTER: u32 = 3;
/// So many "not found" before any usable answer mean that the address is wrong.
const NOTHING_THERE_AFTER: u32 = 5;
/// So many push-backs without an answer between them mean the route and not just bad luck.
const STREAK: u32 = 3;

/// The endpoint's state, shared by all attempts.
pub struct Route {
    /// How long the route may go without a single good answer.
    max_outage: Duration,
    slots: usize,
    state: Mutex<State>,
    /// Wakes the first in the queue.
    changed: Arc<Notify>,
    gauges: Arc<Gauges>,
}

struct State {
    /// Any HTTP response ever came.
    heard: bool,
    /// Any usable answer ever came.
    served: bool,
    tally: Tally,
    last_answer: Option<Instant>,
    /// Times that nothing was found before the first usable answer.
    not_found: u32,
    /// Connections refused before the first response.
    refused: u32,
    /// Push-backs since the last good answer, one for each pause.
    streak: u32,
    /// Push-backs that no good answer has ended.
    refusing: Option<Refusing>,
    /// Requests sent before this belong to a wave that was judged already.
    judged: Option<Instant>,
    pause: Option<Pause>,
    breaker: Breaker,
}

/// Why no request may go out now.
#[derive(Debug)]
pub struct Wait {
    /// `None` where only news ends it.
    pub until: Option<Instant>,
    /// What to tell people, where the gauges do not say it already.
    pub reason: Option<WaitReason>,
}

/// What to do about a push-back.
#[derive(Debug, PartialEq, Eq)]
pub enum PushBack {
    /// Everybody waits.
    Paused(Duration),
    /// Everybody waits for longer than this already.
    Known,
    /// Only this item should wait, at least for so long.
    ItemOnly(Duration),
    /// Only this item is at its end.
    ItemEnds(Failure),
    /// Stop the run.
    GiveUp(Failure),
}

/// The one request that is on its way during an outage. However it ends, another may follow.
pub struct Probe {
    route: Arc<Route>,
    number: u64,
    reported: bool,
}

impl Route {
    pub fn new(settings: &Settings, changed: Arc<Notify>, gauges: Arc<Gauges>) -> Self {
        let state = State {
            heard: false,
            served: false,
            tally: Tally::default(),
            last_answer: None,
            not_found: 0,
            refused: 0,
            streak: 0,
            refusing: None,
            judged: None,
            pause: None,
            breaker: Breaker::new(settings.breaker, settings.max_outage),
        };
        Route {
            max_outage: settings.max_outage,
            slots: settings.concurrency,
            state: Mutex::new(state),
            changed,
            gauges,
        }
    }

    /// Tells whether a request may go out now.
    pub fn look(&self) -> Result<(), Wait> {
        let mut state = self.lock();
        if state.pause.as_ref().is_some_and(Pause::is_past) {
            state.pause = None;
        }
        let Ok(probe) = state.breaker.next_probe() else {
            return Err(Wait {
                until: None,
                reason: None,
            });
        };
        let now = Instant::now();
        if let Some(pause) = state.pause.as_ref().filter(|pause| now < pause.due()) {
            return Err(Wait {
                until: Some(pause.due()),
                reason: pause.why.clone().map(WaitReason::Paused),
            });
        }
        match probe.filter(|probe| now < *probe) {
            Some(_) => Err(Wait {
                until: probe,
                reason: None,
            }),
            None => Ok(()),
        }
    }

    /// Notes that a request goes out.
    pub fn send(self: &Arc<Self>) -> Option<Probe> {
        let mut state = self.lock();
        if let Some(number) = state.breaker.send() {
            self.show_outage(&state);
            return Some(Probe {
                route: self.clone(),
                number,
                reported: false,
            });
        }
        if let Some(pause) = &mut state.pause {
            pause.send(self.slots);
        }
        None
    }

    /// Notes a sign of life, also one that pushes back, and tells whether it ends an outage. Then
    /// requests return spread out.
    pub fn alive(&self, mut probe: Option<Probe>) -> Option<Recovery> {
        let mut state = self.lock();
        state.heard = true;
        let recovery = state
            .breaker
            .alive(probe.as_ref().map(|probe| probe.number));
        if let Some(probe) = &mut probe {
            probe.reported = true;
        }
        if recovery.is_some() {
            let ramp = Pause::new(Instant::now(), None);
            if state
                .pause
                .as_ref()
                .is_none_or(|pause| ramp.outlasts(pause))
            {
                state.pause = Some(ramp);
            }
            self.show_outage(&state);
            self.changed.notify_one();
        }
        recovery
    }

    /// Notes a response that shows the endpoint at work.
    pub fn answered(&self) {
        let mut state = self.lock();
        state.tally.answers += 1;
        state.last_answer = Some(Instant::now());
        state.streak = 0;
        state.refusing = None;
    }

    /// Returns what all items have got so far.
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// Counts a push-back, and returns the tally with it.
    pub fn count_push_back(&self) -> Tally {
        let mut state = self.lock();
        state.tally.push_backs += 1;
        state.tally
    }

    /// Tells whether anybody was answered after that moment.
    pub fn answered_since(&self, moment: Instant) -> bool {
        self.lock().answered_since(moment)
    }

    /// Notes when a timer rang. Where that is long after it was due, the whole process stood still,
    /// and that is nobody's outage.
    pub fn rang(&self, due: Instant) {
        let Some(late) = overslept(due) else {
            return;
        };
        let mut state = self.lock();
        state.breaker.stood_still(late);
        if let Some(refusing) = &mut state.refusing {
            refusing.stood_still(late);
        }
        self.show_outage(&state);
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

    /// Judges a failure that may be the route's: no connection, no answer, or a server error.
    pub fn failed(
        &self,
        asked: Asked,
        probe: Option<Probe>,
        failure: &Failure,
        random: f64,
    ) -> Blame {
        let mut state = self.lock();
        state.heard |= failure.http_status.is_some();
        if failure.kind == FailureKind::Unreachable && !state.heard {
            state.refused += 1;
            if state.refused >= DEAD_AFTER {
                return Blame::TooLong(failure.clone());
            }
        }
        let number = probe.as_ref().map(|probe| probe.number);
        let blame = state.breaker.failed(asked, number, failure, random);
        if let Some(mut probe) = probe {
            probe.reported = true;
            self.changed.notify_one();
        }
        self.show_outage(&state);
        blame
    }

    /// Judges a push-back. `wait` is what the server asked for.
    pub fn pushed_back(
        &self,
        asked: Asked,
        failure: &Failure,
        wait: Option<Duration>,
        random: f64,
    ) -> PushBack {
        let mut state = self.lock();
        if let Some(wait) = wait.filter(|wait| *wait > self.max_outage) {
            let failure = absurd(failure, wait, self.max_outage);
            return match state.answered_since(asked.sent) {
                false => PushBack::GiveUp(failure),
                true if asked.is_own => PushBack::ItemEnds(failure),
                // Whether others are told the same shows soon.
                true => PushBack::ItemOnly(Duration::ZERO),
            };
        }
        let refusing = state.refusing.get_or_insert_with(Refusing::begin);
        if let Some(time) = refusing.beyond(self.max_outage) {
            return PushBack::GiveUp(unanswered(failure, time));
        }
        // A wait of nothing is none: it must not keep the pauses from growing.
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            // One that only this item is told is nobody else's.
            if asked.is_own {
                return PushBack::ItemOnly(wait);
            }
            refusing.asked_for(wait);
            let wait = wait + backoff::stagger(wait, random);
            return self.pause(&mut state, wait, failure);
        }
        if state.judged.is_some_and(|judged| asked.sent < judged) {
            return PushBack::ItemOnly(Duration::ZERO);
        }
        state.streak += 1;
        if state.streak < STREAK {
            return PushBack::ItemOnly(Duration::ZERO);
        }
        let wait = backoff::delay(state.streak - STREAK + 1, 0.5 + random / 2.0);
        self.pause(&mut state, wait, failure)
    }

    /// Lets nothing out for so long. A shorter pause does not end a longer one.
    fn pause(&self, state: &mut State, wait: Duration, failure: &Failure) -> PushBack {
        let until = Instant::now() + wait;
        let why = match failure.http_status {
            Some(status) => format!("the server asked for it ({status})"),
            None => failure.kind.words().to_owned(),
        };
        let pause = Pause::new(until, Some(why));
        let longer = |current: &Pause| pause.outlasts(current);
        let is_news = state.pause.as_ref().is_none_or(longer);
        state.judged = state.judged.max(Some(until));
        if !is_news {
            return PushBack::Known;
        }
        state.pause = Some(pause);
        self.changed.notify_one();
        PushBack::Paused(wait)
    }

    fn show_outage(&self, state: &State) {
        self.gauges.set_outage(state.breaker.outage());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

impl State {
    fn answered_since(&self, moment: Instant) -> bool {
        self.last_answer.is_some_and(|last| last > moment)
    }
}

/// A probe that is dropped on its way leaves room for the next.
impl Drop for Probe {
    fn drop(&mut self) {
        if self.reported {
            return;
        }
        let mut state = self.route.lock();
        state.breaker.lose_probe(self.number);
        self.route.show_outage(&state);
        self.route.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_OUTAGE: Duration = Duration::from_secs(1800);

    fn route() -> Arc<Route> {
        let settings = Settings {
            max_outage: MAX_OUTAGE,
            ..Settings::default()
        };
        Arc::new(Route::new(&settings, Arc::default(), Arc::default()))
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure {
            kind,
            message: String::new(),
            http_status: None,
            code: None,
        }
    }

    fn asked(item: u64) -> Asked {
        Asked {
            item,
            sent: Instant::now(),
            is_own: false,
        }
    }

    fn push(route: &Route, wait: Option<u64>) -> PushBack {
        let wait = wait.map(Duration::from_secs);
        route.pushed_back(asked(1), &failure(FailureKind::RateLimit), wait, 0.0)
    }

    fn refuse(route: &Route, item: u64, probe: Option<Probe>) -> Blame {
        route.failed(asked(item), probe, &failure(FailureKind::Unreachable), 0.0)
    }

    /// Returns a route with an outage.
    fn away() -> Arc<Route> {
        let route = route();
        route.alive(None);
        (0..7).for_each(|item| assert_eq!(refuse(&route, item, None), Blame::Item));
        assert_eq!(refuse(&route, 7, None), Blame::Opened);
        route
    }

    async fn probe(route: &Arc<Route>) -> Probe {
        let until = route.look().unwrap_err().until.unwrap();
        tokio::time::sleep_until(until).await;
        route.look().unwrap();
        route.send().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn three_refusals_before_any_answer_end_the_run() {
        let route = route();
        assert_eq!(refuse(&route, 1, None), Blame::Item);
        assert_eq!(refuse(&route, 2, None), Blame::Item);
        assert!(matches!(refuse(&route, 3, None), Blame::TooLong(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn during_an_outage_one_request_at_a_time_goes_out() {
        let route = away();
        let first = probe(&route).await;
        assert!(route.look().unwrap_err().until.is_none());
        assert_eq!(refuse(&route, 8, Some(first)), Blame::Route);
        let second = probe(&route).await;
        assert!(route.alive(Some(second)).is_some());
        assert!(route.look().is_ok());
        assert!(route.gauges.outage().is_none());
    }

    /// Negative control: without `Probe::drop`, nothing ever goes out again.
    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_on_its_way_keeps_no_gate_closed() {
        let route = away();
        drop(probe(&route).await);
        assert!(route.look().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_outage_requests_return_spread_out() {
        let route = away();
        let probe = probe(&route).await;
        route.alive(Some(probe));
        let start = Instant::now();
        for _ in 0..=route.slots {
            while let Err(wait) = route.look() {
                tokio::time::sleep_until(wait.until.unwrap()).await;
            }
            route.send();
        }
        assert!(start.elapsed() >= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn one_wave_of_push_backs_pauses_once() {
        let route = route();
        let is_pause = |it: &PushBack| matches!(it, PushBack::Paused(_));
        let pauses = (0..64).map(|_| push(&route, None)).filter(is_pause).count();
        assert_eq!(pauses, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_own_wait_is_kept_with_a_stagger_on_top() {
        let route = route();
        let wait = Some(Duration::from_secs(20));
        let judged = route.pushed_back(asked(1), &failure(FailureKind::RateLimit), wait, 0.5);
        assert_eq!(judged, PushBack::Paused(Duration::from_secs(21)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_only_one_item_is_told_is_its_own() {
        let route = route();
        let alone = Asked {
            is_own: true,
            ..asked(1)
        };
        let wait = Duration::from_secs(20);
        let judged = route.pushed_back(alone, &failure(FailureKind::RateLimit), Some(wait), 0.5);
        assert_eq!(judged, PushBack::ItemOnly(wait));
        assert!(route.look().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_absurd_wait_ends_the_run_instead_of_sleeping_for_years() {
        let route = route();
        let wait = Some(Duration::MAX);
        let judged = route.pushed_back(asked(1), &failure(FailureKind::RateLimit), wait, 1.0);
        let PushBack::GiveUp(failure) = judged else {
            panic!("{judged:?}")
        };
        assert_eq!(failure.kind, FailureKind::LongWait);
        assert!(
            failure.message.contains("30m 00s is the most"),
            "{}",
            failure.message
        );
    }
}
