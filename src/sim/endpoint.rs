//! The endpoint: routes, and the life of one request from its arrival to its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::answer::{Draft, Form, Length};
use super::chance;
use super::connection::ResetSwitch;
use super::faults::Fault;
use super::ledger::Ledger;
use super::limits::{Limits, Standing, Throttle, Unit};
use super::price::PicoDollars;
use super::question::Question;
use super::refusal::{self, Refusal};
use super::reply::{self, HangUp, Payload};
use super::settings::SimSettings;
use super::span;
use super::stats::Stats;
use super::tries::Tries;

/// How late the runtime's timer fires on average: it counts whole milliseconds, rounded up.
const TIMER_LAG: Duration = Duration::from_millis(1);

/// The largest request body that is read.
const MAX_BODY: usize = 64 << 20;

/// The model on offer where the settings name none.
const DEFAULT_MODEL: &str = "sim";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// What is shared by all connections.
pub(super) struct Endpoint {
    settings: SimSettings,
    length: Length,
    latency_spread: f64,
    limits: Limits,
    tries: Tries,
    stats: Arc<Stats>,
    ledger: Option<Ledger>,
    serial: AtomicU64,
}

/// What chance has in store for one request.
struct Fate {
    fault: Option<Fault>,
    latency: Duration,
    /// Chooses between the two faces that some faults have.
    coin: bool,
    /// Whether half of the prompt is at hand from an earlier request.
    cached: bool,
}

/// What a request that was let in gets in the end.
enum Outcome {
    Refused(Response<Payload>),
    /// An answer was made at this cost. A fault may still spoil it.
    Charged(Draft, PicoDollars),
}

impl Endpoint {
    pub(super) fn new(settings: SimSettings) -> Endpoint {
        let median = settings.latency.as_secs_f64();
        Endpoint {
            length: Length {
                median: settings.output_tokens,
                spread: settings.output_spread,
                reasoning: settings.reasoning,
                most: settings.max_output,
            },
            latency_spread: chance::spread(median, settings.latency_p99.as_secs_f64()),
            limits: Limits::new(settings.rpm, settings.tpm, settings.burst, Instant::now()),
            tries: Tries::default(),
            stats: Arc::default(),
            ledger: settings.ledger.then(Ledger::new),
            serial: AtomicU64::new(0),
            settings,
        }
    }

    pub(super) fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Answers one request, or hangs up on it.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        switch: &ResetSwitch,
    ) -> Result<Response<Payload>, HangUp> {
        let started = Instant::now();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut response = self.route(request, serial, switch).await?;
        self.sign(response.headers_mut(), serial, started);
        Ok(response)
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        serial: u64,
        switch: &ResetSwitch,
    ) -> Result<Response<Payload>, HangUp> {
        let path = request.uri().path();
        let allowed = match path {
            "/v1/chat/completions" | "/chat/completions" => Method::POST,
            "/v1/models" | "/models" | "/sim/stats" => Method::GET,
            "/sim/ledger" if self.ledger.is_some() => Method::GET,
            _ => return Ok(Refusal::unknown_url(request.method(), path).into_response()),
        };
        if request.method() != allowed {
            return Ok(wrong_method(request.method(), path, &allowed));
        }
        match (path, &self.ledger) {
            ("/sim/stats", _) => return Ok(self.show_stats()),
            ("/sim/ledger", Some(ledger)) => return Ok(reply::lines(ledger.lines())),
            _ => {}
        }
        if !self.lets_in(request.headers()) {
            self.stats.unauthorized();
            return Ok(Refusal::wrong_key().into_response());
        }
        if allowed == Method::GET {
            return Ok(self.list_models());
        }
        self.chat(request, serial, switch).await
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.settings.api_key else {
            return true;
        };
        headers
            .get(AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .is_some_and(|given| given == key.as_bytes())
    }

    fn show_stats(&self) -> Response<Payload> {
        let body = serde_json::to_vec(&self.stats.counts()).expect("counters are always JSON");
        reply::json(StatusCode::OK, body)
    }

    fn list_models(&self) -> Response<Payload> {
        let models = &self.settings.models;
        let default = models.is_empty().then_some(DEFAULT_MODEL);
        let names = models.iter().map(String::as_str).chain(default);
        let data: Vec<_> = names
            .map(|name| {
                serde_json::json!({
                    "id": name, "object": "model", "created": 0, "owned_by": "simulator",
                })
            })
            .collect();
        let body = serde_json::json!({ "object": "list", "data": data });
        reply::json(StatusCode::OK, body.to_string())
    }

    async fn chat(
        &self,
        request: Request<Incoming>,
        serial: u64,
        switch: &ResetSwitch,
    ) -> Result<Response<Payload>, HangUp> {
        let visit = self.stats.enter();
        let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                self.stats.rejected();
                return Ok(Refusal::too_long().into_response());
            }
            Err(_) => return Err(HangUp),
        };
        match self.admit(&body, visit.present) {
            Ok(question) => self.perform(&question, &body, serial, switch).await,
            Err(refusal) => Ok(refusal.into_response()),
        }
    }

    /// Reads a request and lets it in, if it is sound and there is room.
    fn admit<'a>(&self, body: &'a Bytes, present: u32) -> Result<Question<'a>, Refusal> {
        let question = Question::read(body)
            .and_then(|question| self.check_model(question))
            .inspect_err(|_| self.stats.rejected())?;
        if self
            .settings
            .max_in_flight
            .is_some_and(|most| present > most)
        {
            self.stats.crowded();
            return Err(Refusal::overloaded());
        }
        let tokens = question.admission_tokens(self.settings.output_tokens);
        self.limits
            .take(tokens, Instant::now())
            .inspect_err(|throttle| self.count_throttle(throttle))
            .map_err(|throttle| Refusal::throttled(&question.model, &throttle))?;
        Ok(question)
    }

    fn check_model<'a>(&self, question: Question<'a>) -> Result<Question<'a>, Refusal> {
        let models = &self.settings.models;
        if models.is_empty() || models.iter().any(|model| *model == question.model) {
            Ok(question)
        } else {
            Err(Refusal::unknown_model(&question.model))
        }
    }

    fn count_throttle(&self, throttle: &Throttle) {
        match throttle {
            Throttle::Wait {
                unit: Unit::Requests,
                ..
            } => self.stats.throttled_requests(),
            _ => self.stats.throttled_tokens(),
        }
    }

    /// Plays the fate of a request that was let in.
    async fn perform(
        &self,
        question: &Question<'_>,
        body: &[u8],
        serial: u64,
        switch: &ResetSwitch,
    ) -> Result<Response<Payload>, HangUp> {
        let fate = self.draw(xxh3_64(body));
        if let Some(fault) = fate.fault {
            self.stats.fault(fault);
        }
        // A server that pushes back does so at once; everything else takes its time.
        match fate.fault {
            Some(Fault::RateLimit) => return Ok(Refusal::unlucky(&question.model).into_response()),
            Some(Fault::Overloaded) => return Ok(Refusal::overloaded().into_response()),
            _ => {}
        }
        // An answer is made, and charged, even if no one waits for it to the end.
        let outcome = self.decide(question, serial, &fate);
        if !fate.latency.is_zero() {
            tokio::time::sleep(fate.latency.saturating_sub(TIMER_LAG)).await;
        }
        let (draft, cost) = match outcome {
            Outcome::Refused(response) => return Ok(response),
            Outcome::Charged(draft, cost) => (draft, cost),
        };
        match fate.fault {
            Some(Fault::Reset) => {
                switch.throw();
                Err(HangUp)
            }
            Some(Fault::Stall) => std::future::pending().await,
            fault => {
                let body = draft.write(question, serial, unix_seconds());
                Ok(self.deliver(body, serial, cost, fault))
            }
        }
    }

    fn draw(&self, body: u64) -> Fate {
        if self.settings.faults.is_empty() {
            return self.draw_try(body, 0);
        }
        self.tries.next(body, |number| {
            let fate = self.draw_try(body, number);
            let failed = fate.fault.is_some_and(Fault::passes);
            (fate, failed)
        })
    }

    fn draw_try(&self, body: u64, number: u32) -> Fate {
        let mut rng = chance::generator(self.settings.seed, body, number);
        let fault = self.settings.faults.pick(rng.f64());
        let coin = rng.bool();
        let median = self.settings.latency.as_secs_f64();
        let seconds = chance::log_normal(&mut rng, median, self.latency_spread);
        Fate {
            fault,
            coin,
            latency: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
            cached: rng.f64() < self.settings.cached,
        }
    }

    /// Decides what a request gets in the end, and charges the answer if it is one.
    fn decide(&self, question: &Question, serial: u64, fate: &Fate) -> Outcome {
        let form = match fate.fault {
            Some(Fault::ServerError) => {
                return Outcome::Refused(Refusal::server_error().into_response());
            }
            Some(Fault::Html) if fate.coin => {
                return Outcome::Refused(reply::page(StatusCode::BAD_GATEWAY));
            }
            Some(Fault::ContentFilter) if fate.coin => {
                return Outcome::Refused(refusal::filtered_prompt());
            }
            Some(Fault::NoUsage) => Form::WithoutUsage,
            Some(Fault::EmptyChoices) => Form::WithoutChoices,
            Some(Fault::ContentFilter) => Form::Filtered,
            _ => Form::Whole,
        };
        let mut draft = Draft::draw(question, self.length, form);
        if fate.cached {
            draft.find_prompt_cached();
        }
        let cost = self.settings.prices.cost(&question.model, draft.usage());
        self.stats.charged(draft.usage(), cost);
        if let Some(ledger) = &self.ledger {
            ledger.charge(serial, question.echo);
        }
        Outcome::Charged(draft, cost)
    }

    /// Sends an answer, spoiled as the fault wants it.
    fn deliver(
        &self,
        mut body: Vec<u8>,
        serial: u64,
        cost: PicoDollars,
        fault: Option<Fault>,
    ) -> Response<Payload> {
        match fault {
            Some(Fault::Truncated) => {
                self.enter_answer(serial, &body, false);
                return reply::cut_json(body);
            }
            Some(Fault::BadJson) => body.truncate(body.len() / 2),
            None | Some(Fault::NoUsage) => self.stats.answered(),
            _ => {}
        }
        self.stats.delivered(cost);
        if fault == Some(Fault::Html) {
            return reply::page(StatusCode::OK);
        }
        self.enter_answer(serial, &body, true);
        reply::json(StatusCode::OK, body)
    }

    fn enter_answer(&self, serial: u64, body: &[u8], whole: bool) {
        if let Some(ledger) = &self.ledger {
            ledger.answer(serial, body, whole);
        }
    }

    /// Adds the headers that every response carries.
    fn sign(&self, headers: &mut HeaderMap, serial: u64, started: Instant) {
        let now = Instant::now();
        let elapsed = u64::try_from((now - started).as_millis()).unwrap_or(u64::MAX);
        headers.insert(PROCESSING_MS, elapsed.into());
        headers.insert(REQUEST_ID, text(format!("req_{serial:032x}")));
        for (unit, standing) in self.limits.standings(now) {
            post(headers, unit, &standing);
        }
    }
}

fn wrong_method(method: &Method, path: &str, allowed: &Method) -> Response<Payload> {
    let mut response = Refusal::wrong_method(method, path).into_response();
    response
        .headers_mut()
        .insert(ALLOW, text(allowed.to_string()));
    response
}

/// Adds where one limit stands.
fn post(headers: &mut HeaderMap, unit: Unit, standing: &Standing) {
    const REQUESTS: [HeaderName; 3] = [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ];
    const TOKENS: [HeaderName; 3] = [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ];
    let [limit, remaining, reset] = match unit {
        Unit::Requests => REQUESTS,
        Unit::Tokens => TOKENS,
    };
    headers.insert(limit, standing.limit.into());
    headers.insert(remaining, standing.remaining.into());
    headers.insert(reset, text(span::go(standing.reset)));
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("our own headers are plain ASCII")
}

fn unix_seconds() -> u64 {
    // A clock before 1970 is the machine's own affair.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Faults;

    fn endpoint(seed: u64, faults: Faults) -> Endpoint {
        Endpoint::new(SimSettings {
            seed,
            faults,
            ..SimSettings::default()
        })
    }

    fn fates(endpoint: &Endpoint) -> Vec<(Option<Fault>, Duration)> {
        let fates = (0..500).map(|body| endpoint.draw(body));
        fates.map(|fate| (fate.fault, fate.latency)).collect()
    }

    #[test]
    fn same_seed_brings_the_same_fates() {
        let faults = Faults::default().with(Fault::ServerError, 0.3);
        let first = fates(&endpoint(1, faults.clone()));
        assert_eq!(first, fates(&endpoint(1, faults.clone())));
        assert_ne!(first, fates(&endpoint(2, faults)));
    }

    #[test]
    fn faults_strike_at_their_rate() {
        let faults = Faults::default().with(Fault::ServerError, 0.3);
        let struck = fates(&endpoint(1, faults))
            .iter()
            .filter(|(fault, _)| fault.is_some())
            .count();
        assert!((120..180).contains(&struck), "{struck}");
    }

    #[test]
    fn asking_again_gets_past_a_fault() {
        let endpoint = endpoint(1, Faults::default().with(Fault::Reset, 0.5));
        for body in 0..100 {
            let tries = (0..40).take_while(|_| endpoint.draw(body).fault.is_some());
            assert!(tries.count() < 40);
        }
    }

    #[test]
    fn filtered_content_stays_filtered() {
        let endpoint = endpoint(1, Faults::default().with(Fault::ContentFilter, 0.5));
        let first = fates(&endpoint);
        assert_eq!(first, fates(&endpoint));
    }
}
