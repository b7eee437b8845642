//! What attempts without a row cost reaches the checkpoint too.

use super::scene::{self, Scene};
use crate::words::tariff::Bill;

#[test]
fn a_charge_that_no_row_tells_of_makes_a_snapshot_due() {
    let scene = Scene::new(1);
    let (mut recorder, _) = scene.open(&scene::disk()).unwrap();
    assert_eq!(recorder.sync_due(), None);
    recorder.take_bill(&Bill::default());
    assert_eq!(recorder.sync_due(), None);
    recorder.take_bill(&Bill::UNKNOWN);
    assert!(recorder.sync_due().is_some());
}
