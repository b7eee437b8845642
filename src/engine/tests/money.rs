//! What attempts cost, and a budget that is never passed.

use std::sync::Arc;

use super::scene::{Scene, Seen, ms, seconds};
use super::script::Say;
use crate::engine::Phase;
use crate::engine::budget::{Budget, Limits};
use crate::words::event::Event;
use crate::words::item::Item;
use crate::words::money::{Rate, Usd};
use crate::words::price::Price;
use crate::words::record::ErrorStatus;
use crate::words::tariff::{Charge, Tariff};
use crate::words::tokens::Tokens;
use crate::words::verdict::FailureKind;

fn usd(text: &str) -> Usd {
    Usd::parse(text).unwrap()
}

/// Only the answer costs anything: a dollar for each thousand tokens.
fn tariff(model: &str, max_output: u64) -> Arc<Tariff> {
    priced_at("1000", model, max_output)
}

fn priced_at(million: &str, model: &str, max_output: u64) -> Arc<Tariff> {
    let rate = |text| Rate::per_million(text).unwrap();
    Arc::new(Tariff {
        model: model.into(),
        price: Arc::new(Price::simple(rate("0"), rate(million))),
        max_input: None,
        max_output: Some(Tokens(max_output)),
    })
}

pub fn priced(item: &mut Item) {
    item.tariff = Some(tariff("scripted", 1000));
}

pub fn budget(limit: &str, downgrade: Option<Arc<Tariff>>) -> Arc<Budget> {
    let limits = Limits {
        limit: usd(limit),
        warn_at: usd(limit).share(80, 100),
        slots: 8,
        downgrade,
    };
    let budget = Budget::open(limits, Usd::ZERO, Usd::ZERO);
    budget.grant(usd(limit));
    budget
}

/// Every answer costs a tenth of a dollar, and can cost a dollar.
fn scene(items: u64, budget: &Arc<Budget>) -> Scene {
    let mut scene = Scene::new(items, ms(100), |_| Say::Used(100))
        .concurrency(8)
        .with_items(priced);
    scene.budget = Some(budget.clone());
    scene
}

fn halted(seen: &Seen) -> FailureKind {
    seen.ending.halted.as_ref().unwrap().kind
}

#[tokio::test(start_paused = true)]
async fn a_run_within_its_budget_ends_as_without_one() {
    let budget = budget("20", None);
    let seen = scene(50, &budget).play().await;
    seen.assert_all_ok();
    assert_eq!(budget.accounts().committed(), usd("5"));
    let charge = seen.record(7).bill.charge;
    assert_eq!(charge, Charge::Known(usd("0.1")));
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_never_hold_more_than_the_budget() {
    let budget = budget("3", None);
    let seen = scene(20, &budget).play().await;
    assert_eq!(seen.peak, 3, "three worst cases fit at a time");
    assert!(budget.accounts().committed() <= usd("3"));
    seen.assert_all_ok();
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_stops_the_run_and_leaves_the_rest_pending() {
    let budget = budget("3", None);
    // Limited by themselves, so nothing tightens them.
    let own_limit = |item: &mut Item| {
        priced(item);
        item.bounds.output = Some(Tokens(1000));
    };
    let seen = scene(100, &budget).with_items(own_limit).play().await;
    assert_eq!(halted(&seen), FailureKind::Budget);
    // With 2.10 spent the next worst case of 1.00 has no room.
    assert_eq!(seen.records().len(), 21);
    assert_eq!(seen.failed(), 0);
    assert!(seen.ending.left_pending);
    assert_eq!(seen.halts(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_answers_really_cost_lets_a_run_use_its_budget_up() {
    let budget = budget("10", None);
    let seen = scene(100, &budget).play().await;
    // A hundred answers cost 10.00: limited to 0.208 each, all but the last two find room.
    assert!(seen.records().len() >= 98, "{}", seen.records().len());
    assert!(budget.accounts().committed() <= usd("10"));
    assert_eq!(halted(&seen), FailureKind::Budget);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_may_have_been_charged_counts_in_full() {
    let budget = budget("20", None);
    let mut broken = scene(4, &budget).timed(|ask| match ask.request {
        1 => (ms(100), Say::Broke),
        _ => (ms(100), Say::Used(100)),
    });
    broken.budget = Some(budget.clone());
    broken.play().await.assert_all_ok();
    let accounts = budget.accounts();
    assert_eq!((accounts.spent, accounts.at_risk), (usd("0.4"), usd("4")));
    assert_eq!(accounts.reserved, Usd::ZERO);
}

#[tokio::test(start_paused = true)]
async fn refused_requests_cost_nothing() {
    let budget = budget("20", None);
    let refused = scene(4, &budget).timed(|ask| match ask.request {
        1 => (ms(100), Say::Throttled(Some(1))),
        2 => (ms(100), Say::Failed),
        _ => (ms(100), Say::Rejected),
    });
    refused.play().await;
    assert_eq!(budget.accounts(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_dropped_on_their_way_count_in_full() {
    let budget = budget("20", None);
    let dropped = scene(4, &budget)
        .timed(|_| (seconds(30), Say::Used(100)))
        .stop_at(seconds(1), Phase::Aborting);
    dropped.play().await;
    assert_eq!(budget.accounts().at_risk, usd("4"));
}

#[tokio::test(start_paused = true)]
async fn the_warning_comes_once_and_sends_what_has_not_started_elsewhere() {
    let cheap = priced_at("999", "cheap", 10);
    let budget = budget("10", Some(cheap));
    let seen = scene(100, &budget).play().await;
    let warnings: Vec<_> = seen
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::BudgetLow {
                spent, downgrade, ..
            } => Some((*spent, downgrade.as_deref().map(str::to_owned))),
            _ => None,
        })
        .collect();
    let [(spent, other)] = &warnings[..] else {
        panic!("{warnings:?}")
    };
    assert!(*spent >= usd("8"), "{spent}");
    assert_eq!(other.as_deref(), Some("cheap"));
    let elsewhere = seen
        .records()
        .values()
        .filter(|record| &*record.model == "cheap")
        .count();
    assert!(elsewhere > 0);
    assert_eq!(elsewhere as u64, budget.accounts().downgraded);
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_price_is_unknown_stops_a_run_with_a_budget() {
    let budget = budget("10", None);
    let seen = scene(5, &budget)
        .with_items(|item| item.tariff = None)
        .play()
        .await;
    assert_eq!(halted(&seen), FailureKind::Boundless);
    assert_eq!(seen.sent.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_ceiling_that_is_never_written_down_lets_nothing_out() {
    let limits = budget("10", None).limits().clone();
    let budget = Budget::open(limits, Usd::ZERO, Usd::ZERO);
    let seen = scene(5, &budget)
        .stop_at(seconds(5), Phase::Draining)
        .play()
        .await;
    assert_eq!(seen.sent.len(), 0);
    let asked = |(_, event): &&(_, Event)| matches!(event, Event::CeilingWanted);
    assert_eq!(seen.events.iter().filter(asked).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_item_above_the_whole_budget_does_not_stop_the_others() {
    let budget = budget("2", None);
    let seen = scene(10, &budget)
        .with_items(|item| {
            let longest = if item.index == 3 { 5000 } else { 1000 };
            item.bounds.output = Some(Tokens(longest));
        })
        .play()
        .await;
    let failed = Some((ErrorStatus::Failed, FailureKind::Budget));
    assert_eq!(seen.status(3), failed);
    assert_eq!((seen.failed(), seen.records().len()), (1, 10));
    assert!(seen.ending.complete);
}

#[tokio::test(start_paused = true)]
async fn where_the_usual_model_finds_no_room_the_cheaper_one_is_asked_at_once() {
    // The first worst case leaves no room for a second one.
    let budget = budget("1.05", Some(priced_at("10", "cheap", 1000)));
    let seen = scene(10, &budget)
        .with_items(|item| item.bounds.output = Some(Tokens(1000)))
        .play()
        .await;
    seen.assert_all_ok();
    assert_eq!(budget.accounts().downgraded, 9);
}
