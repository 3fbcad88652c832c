//! A message that is too large for who gets it.

use super::*;

#[test]
fn a_control_plane_that_takes_no_large_request_is_told_less_at_once_and_what_it_has_not_is_gone() {
    let setup = Setup::new(|_, _| {});
    let first = setup.plane.accept();
    first.opened();
    let long = "a".repeat(4 << 20);
    first.say(response(Kind::Route, "n1", &[resource(&long, &[], "1"), resource("b", &[], "1")], &[]));
    setup.take();
    first.asked();
    let began = Instant::now();
    first.fail(Status::resource_exhausted("grpc: received message larger than max (4194432 vs. 4194304)"));
    let second = setup.plane.accept();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(versions(&second, Kind::Route), BTreeMap::from([("b".to_owned(), "1".to_owned())]));
    let mut all = response(Kind::Route, "n1", &[resource("c", &[], "1")], &[]);
    all.say_whole();
    second.say(all);
    assert_eq!(setup.take().removed, [long]);
    let metrics = setup.client.standing().to_metrics();
    assert_eq!(metrics.oversized, [("request", 1), ("response", 0)]);
}

#[test]
fn a_response_that_is_too_large_is_said_to_be_and_not_asked_for_in_a_circle() {
    let setup = Setup::new(|_, _| {});
    for _ in 0..3 {
        setup.plane.accept().fail(Status::out_of_range("the message is too long"));
    }
    let began = Instant::now();
    while setup.client.standing().to_metrics().oversized != [("request", 2), ("response", 1)] {
        assert!(began.elapsed() < PATIENCE, "{}", setup.status());
        thread::sleep(Duration::from_millis(5));
    }
    let error = setup.status()["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("too long") && error.contains("set --discovery-on-demand"), "{error}");
    assert!(setup.plane.is_quiet(), "another try would only cost it the same again");
}
