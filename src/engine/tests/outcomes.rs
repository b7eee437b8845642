//! What becomes of one item: attempts, backoff, outcomes.

use super::scene::{Scene, Seen, ms, seconds};
use super::script::{Ask, Say};
use crate::words::event::Event;
use crate::words::record::{ErrorStatus, Outcome};
use crate::words::verdict::FailureKind;

/// Plays one item that is told `says` in turn, the last of them again and again.
async fn one(max_retries: u32, says: &'static [Say]) -> Seen {
    let script = |ask: Ask| says[(ask.request as usize).min(says.len()) - 1];
    let scene = Scene::new(1, ms(50), script);
    scene.max_retries(max_retries).play().await
}

fn assert_ended(seen: &Seen, requests: usize, status: ErrorStatus, kind: FailureKind) {
    assert_eq!(seen.status(0), Some((status, kind)));
    assert_eq!(seen.sent.len(), requests, "requests");
    assert_eq!(seen.record(0).attempts as usize, requests, "attempts");
}

#[tokio::test(start_paused = true)]
async fn five_retries_are_six_attempts_then_failed() {
    let seen = one(5, &[Say::Failed]).await;
    assert_ended(&seen, 6, ErrorStatus::Failed, FailureKind::ServerError);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_retried() {
    let seen = one(5, &[Say::Broke, Say::Broke, Say::Done]).await;
    seen.assert_all_ok();
    assert_eq!(seen.record(0).attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn the_waits_between_attempts_are_jittered_below_a_doubling_ceiling() {
    let mut waits = vec![Vec::new(); 5];
    let scene = Scene::new(50, ms(50), |_| Say::Failed);
    let seen = scene.without_breaker().play().await;
    for item in 0..50 {
        let requests = seen.requests_of(item);
        for (round, pair) in requests.windows(2).enumerate() {
            waits[round].push(pair[1].start - pair[0].end.unwrap());
        }
    }
    for (waits, ceiling) in waits.iter().zip([1, 2, 4, 8, 16]) {
        let (shortest, longest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(
            *longest <= seconds(ceiling) + ms(1),
            "{longest:?} > {ceiling} s"
        );
        assert!(
            *longest > seconds(ceiling) * 3 / 4,
            "{longest:?} of {ceiling} s"
        );
        assert!(
            *shortest < seconds(ceiling) / 4,
            "{shortest:?} of {ceiling} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_announced_delay_is_the_one_that_is_kept() {
    let seen = one(1, &[Say::Failed, Say::Done]).await;
    let Event::Retried { delay, .. } = seen.events[0].1 else {
        panic!("{:?}", seen.events[0])
    };
    let waited = seen.sent[1].start - seen.sent[0].end.unwrap();
    assert!(waited.abs_diff(delay) <= ms(1), "{waited:?} for {delay:?}");
}

#[tokio::test(start_paused = true)]
async fn the_attempts_time_bounds_the_whole_exchange() {
    let seen = one(0, &[Say::Silence]).await;
    assert_ended(&seen, 1, ErrorStatus::Failed, FailureKind::Timeout);
    assert!(
        seen.took >= seconds(60) && seen.took < seconds(61),
        "{:?}",
        seen.took
    );
}

#[tokio::test(start_paused = true)]
async fn a_timeout_may_be_paid_for_so_it_is_tried_only_once_more() {
    let seen = one(5, &[Say::Silence]).await;
    assert_ended(&seen, 2, ErrorStatus::Failed, FailureKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn an_unusable_answer_gets_one_more_try_then_is_invalid_and_kept() {
    let seen = one(5, &[Say::Malformed]).await;
    assert_ended(&seen, 2, ErrorStatus::Invalid, FailureKind::Malformed);
    assert_eq!(seen.kept(0).unwrap(), "malformed");
}

#[tokio::test(start_paused = true)]
async fn a_page_gets_one_more_try_then_is_invalid_and_kept() {
    let seen = one(5, &[Say::Page]).await;
    assert_ended(&seen, 2, ErrorStatus::Invalid, FailureKind::Malformed);
    assert_eq!(seen.kept(0).unwrap(), "page");
}

#[tokio::test(start_paused = true)]
async fn an_unusable_answer_after_the_last_retry_is_not_asked_again() {
    let seen = one(1, &[Say::Failed, Say::Malformed]).await;
    assert_ended(&seen, 2, ErrorStatus::Invalid, FailureKind::Malformed);
}

#[tokio::test(start_paused = true)]
async fn retries_without_end_are_allowed() {
    let seen = one(u32::MAX, &[Say::Malformed]).await;
    assert_ended(&seen, 2, ErrorStatus::Invalid, FailureKind::Malformed);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_request_is_asked_once() {
    let seen = one(5, &[Say::Rejected]).await;
    assert_ended(&seen, 1, ErrorStatus::Rejected, FailureKind::BadRequest);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_the_server_calls_final_is_asked_once() {
    let seen = one(5, &[Say::Hopeless]).await;
    assert_ended(&seen, 1, ErrorStatus::Failed, FailureKind::ServerError);
}

#[tokio::test(start_paused = true)]
async fn a_filtered_request_is_asked_once() {
    let seen = one(5, &[Say::Filtered]).await;
    assert_ended(&seen, 1, ErrorStatus::Filtered, FailureKind::ContentFilter);
}

#[tokio::test(start_paused = true)]
async fn without_retries_everything_is_asked_once() {
    let says: [&'static [Say]; 6] = [
        &[Say::Failed],
        &[Say::Broke],
        &[Say::Silence],
        &[Say::Malformed],
        &[Say::Rejected],
        &[Say::Filtered],
    ];
    for say in says {
        let seen = one(0, say).await;
        assert_eq!(seen.sent.len(), 1, "{say:?}");
        assert!(seen.status(0).is_some(), "{say:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_item_keeps_its_attempts() {
    let script = |ask: Ask| match ask.request {
        ..=20 => Say::Throttled(None),
        _ => Say::Done,
    };
    let seen = Scene::new(1, ms(50), script).max_retries(0).play().await;
    seen.assert_all_ok();
    assert_eq!(seen.sent.len(), 21);
    assert_eq!(seen.record(0).attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn throttling_between_failures_spends_no_attempts() {
    let says = &[Say::Failed, Say::Throttled(Some(1)), Say::Failed, Say::Done];
    let seen = one(2, says).await;
    seen.assert_all_ok();
    assert_eq!(seen.record(0).attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_the_json_asked_for_is_asked_again_then_invalid() {
    let scene = Scene::new(1, ms(50), |_| Say::Content("Sure! {"));
    let seen = scene
        .with_items(|item| item.expects_json = true)
        .play()
        .await;
    assert_ended(&seen, 2, ErrorStatus::Invalid, FailureKind::Malformed);
    assert_eq!(seen.kept(0).unwrap(), "content Sure! {");
}

#[tokio::test(start_paused = true)]
async fn json_that_was_asked_for_and_came_is_a_result() {
    let scene = Scene::new(1, ms(50), |_| Say::Content(r#"{"a": 1}"#));
    let seen = scene
        .with_items(|item| item.expects_json = true)
        .play()
        .await;
    seen.assert_all_ok();
    assert_eq!(seen.sent.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_a_request_that_went_out_may_be_charged() {
    for (say, charged) in [
        (Say::Broke, true),
        (Say::Silence, true),
        (Say::Failed, false),
    ] {
        let scene = Scene::new(1, ms(50), move |ask| match ask.request {
            1 => say,
            _ => Say::Done,
        });
        let seen = scene.play().await;
        let Event::Retried { bill, .. } = seen.events[0].1 else {
            panic!("{:?}", seen.events[0])
        };
        assert_eq!(bill.charge.is_uncertain(), charged, "{say:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn latency_is_that_of_the_attempt_that_brought_the_answer() {
    let scene = Scene::new(1, ms(0), |_| Say::Done).timed(|ask| match ask.request {
        1 => (seconds(7), Say::Failed),
        _ => (ms(300), Say::Done),
    });
    let seen = scene.play().await;
    let latency = seen.record(0).latency;
    assert!(latency.abs_diff(ms(300)) <= ms(1), "{latency:?}");
}

#[tokio::test(start_paused = true)]
async fn a_result_carries_the_response_as_received() {
    let seen = one(0, &[Say::Content("hello")]).await;
    let Outcome::Ok {
        answer,
        http_status,
        body,
    } = &seen.record(0).outcome
    else {
        panic!("{:?}", seen.record(0))
    };
    assert_eq!(answer.content.as_deref(), Some("hello"));
    assert_eq!((*http_status, body.as_ref()), (200, &b"content hello"[..]));
}
