//! A Service that is behind a waypoint is reached through that or not at all.

use config::discovery::messages::{GatewayAddress, NamespacedHostname, gateway_address::Destination};
use e2e::eventually;
use testkit::Outcome;

use super::{
    said::set_service,
    shop::{Shop, web},
};

#[test]
fn a_service_that_names_a_waypoint_is_refused_and_never_reached_around_it() -> Outcome {
    let mut shop = Shop::told()?;
    let mut daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let hostname = "gate.shop.svc.cluster.local".to_owned();
    let gate = NamespacedHostname { namespace: "shop".to_owned(), hostname };
    let gate = GatewayAddress { destination: Some(Destination::Hostname(gate)), hbone_mtls_port: 15008 };
    let mut guarded = web();
    guarded.waypoint = Some(gate);
    shop.serve(&daemon, &[set_service(guarded)])?;
    assert!(!shop.answers(), "it is reached around its waypoint");
    daemon.wait_logged(|line| line["reason"] == "waypoint")?;
    assert_eq!(shop.ask(11)?.text().trim(), "old", "the others are as they were");
    shop.serve(&daemon, &[set_service(web())])?;
    assert!(shop.answers(), "{}", shop.refusal());
    Ok(())
}
