//! Requests and tokens a minute, over a whole run.

use std::time::Duration;

use super::super::window;
use super::scene::{Scene, Seen, ms, seconds};
use super::script::{Ask, Say};
use crate::words::tokens::Tokens;

fn assert_between(seen: &Seen, least: Duration, most: Duration) {
    let took = seen.took;
    assert!(
        least <= took && took <= most,
        "{took:?} is not {least:?} to {most:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn six_hundred_requests_at_six_hundred_a_minute_take_a_minute() {
    let seen = Scene::new(600, ms(50), |_| Say::Done).rpm(600).play().await;
    seen.assert_all_ok();
    assert_between(&seen, ms(59_800), ms(60_500));
}

#[tokio::test(start_paused = true)]
async fn no_second_sees_more_than_its_share_of_the_minute() {
    let seen = Scene::new(600, ms(50), |_| Say::Done).rpm(600).play().await;
    for second in 0..60 {
        let started = seen.started(seconds(second), seconds(second + 1));
        assert!(started <= 11, "{started} in second {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_count_against_the_request_limit() {
    let seen = Scene::new(300, ms(50), |ask| match ask.request {
        1 => Say::Failed,
        _ => Say::Done,
    })
    .without_breaker()
    .rpm(600)
    .play()
    .await;
    seen.assert_all_ok();
    assert_between(&seen, ms(59_800), ms(61_500));
}

/// 300 answers of 100 tokens at 6,000 a minute take 300 s; as reserved they would take 3,000 s.
#[tokio::test(start_paused = true)]
async fn unused_tokens_of_a_reservation_are_given_back() {
    let seen = Scene::new(300, ms(50), |_| Say::Used(100))
        .tpm(6_000)
        .with_items(|item| {
            item.prompt_tokens = Some(Tokens(0));
            item.bounds.output = Some(Tokens(1000));
        })
        .play()
        .await;
    seen.assert_all_ok();
    assert_between(&seen, seconds(290), seconds(320));
}

/// The fixed latency is the worst case: all refunds come just when the bucket is full again.
async fn slow_answers(latency: fn(Ask) -> Duration) -> Seen {
    let seen = Scene::new(12_000, seconds(2), |_| Say::Used(100))
        .timed(move |ask| (latency(ask), Say::Used(100)))
        .concurrency(400)
        .tpm(600_000)
        .with_items(|item| {
            item.prompt_tokens = Some(Tokens(0));
            item.bounds.output = Some(Tokens(1000));
        })
        .play()
        .await;
    seen.assert_all_ok();
    println!(
        "12,000 answers of a tenth of their reservation: {:?}",
        seen.took
    );
    seen
}

/// As reserved, they would take 1,200 s; as used, 120 s.
#[tokio::test(start_paused = true)]
async fn slow_answers_reach_the_real_rate_once_they_come_back() {
    assert_between(
        &slow_answers(|_| seconds(2)).await,
        seconds(119),
        seconds(160),
    );
    let varied = |ask: Ask| ms(1000 + ask.item * 7919 % 2000);
    assert_between(&slow_answers(varied).await, seconds(119), seconds(160));
}

#[tokio::test(start_paused = true)]
async fn answers_longer_than_reserved_slow_the_run_to_the_limit() {
    let seen = Scene::new(300, ms(50), |_| Say::Used(100))
        .tpm(6_000)
        .with_items(|item| {
            item.prompt_tokens = Some(Tokens(0));
            item.bounds.output = Some(Tokens(10));
        })
        .play()
        .await;
    seen.assert_all_ok();
    // The last answer is booked after it came: nobody waits for it.
    assert_between(&seen, seconds(230), seconds(310));
}

/// The first window reserves the first guess, a tenth of what comes; who follows knows better.
#[tokio::test(start_paused = true)]
async fn answers_without_a_limit_are_reserved_by_the_moving_average() {
    let seen = Scene::new(60, seconds(5), |_| Say::Used(2560))
        .concurrency(4)
        .tpm(60_000)
        .with_items(|item| item.prompt_tokens = Some(Tokens(0)))
        .play()
        .await;
    seen.assert_all_ok();
    for pair in seen.sent[window(4) + 4..].windows(2) {
        let gap = pair[1].start - pair[0].start;
        assert!(gap >= ms(2500), "{gap:?} where 2,560 tokens take 2.56 s");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_heavier_than_a_whole_minute_settles() {
    let seen = Scene::new(3, ms(50), |_| Say::Used(12_000))
        .tpm(6_000)
        .with_items(|item| {
            item.prompt_tokens = Some(Tokens(12_000));
            item.bounds.output = Some(Tokens(0));
        })
        .play()
        .await;
    seen.assert_all_ok();
    assert_between(&seen, seconds(239), seconds(241));
}

#[tokio::test(start_paused = true)]
async fn error_answers_use_no_tokens() {
    let seen = Scene::new(100, ms(50), |_| Say::Filtered)
        .tpm(6_000)
        .with_items(|item| {
            item.prompt_tokens = Some(Tokens(1000));
            item.bounds.output = Some(Tokens(0));
        })
        .play()
        .await;
    assert_eq!(seen.records().len(), 100);
    assert_between(&seen, seconds(4), seconds(20));
}
