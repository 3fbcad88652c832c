//! On demand: what is used is asked for, nothing else is, and what was asked for stays while who tells is away and when it is back.

use std::collections::BTreeSet;

use e2e::{Traffic, eventually};
use testkit::{
    Outcome,
    control_plane::{Change, Event},
};

use super::{
    said::{service, set_service, set_workload, workload},
    shop::{Shop, at, vip, web},
};

#[test]
fn what_is_used_is_asked_for_and_is_there_while_who_tells_restarts() -> Outcome {
    let mut shop = Shop::silent()?;
    let mesh = by_address(&shop);
    shop.plane.change(&mesh)?;
    let daemon = shop.daemon(&["--discovery-on-demand"])?;
    eventually("the Service answers", || shop.answers())?;
    let asked = asked(shop.plane.all_events());
    assert!(asked.contains("/10.96.0.10") && !asked.contains("/10.96.0.12"), "{asked:?}");

    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    shop.both_answer(&traffic)?;
    for _ in 0..3 {
        shop.plane.stop()?;
        traffic.next(50)?;
        shop.plane.listen()?;
        shop.plane.wait("the node is back", |events| {
            events.iter().rev().find(|event| matches!(event, Event::Request(_))).map(drop)
        })?;
        shop.plane.mark();
        traffic.next(300)?;
    }
    assert_eq!(traffic.tally().failures, 0, "{:?}; {}", traffic.tally(), daemon.output());
    Ok(())
}

#[test]
fn what_no_pod_has_used_is_asked_for_when_somebody_asks_about_it() -> Outcome {
    let mut shop = Shop::silent()?;
    let mesh = by_address(&shop);
    shop.plane.change(&mesh)?;
    let daemon = shop.daemon(&["--discovery-on-demand"])?;
    let explain = |to: &str| {
        let output = daemon.canopy(&["explain", "--from", "shop/client", "--to", to]);
        output.map(|output| {
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    eventually("the client is known", || {
        explain("10.96.0.10:80").is_ok_and(|said| said.contains("shop/web"))
    })?;
    assert!(!asked(shop.plane.all_events()).contains("/10.96.0.12"), "nobody has used it");
    let said = explain("10.96.0.12:80")?;
    assert!(said.contains("port 80 of Service shop/new"), "{said}");
    let said = explain("old:80")?;
    assert!(said.contains("port 80 of Service shop/old"), "{said}");
    shop.plane.stop()?;
    let said = explain("10.96.0.13:80")?;
    assert!(said.contains("the control plane has not answered yet what 10.96.0.13:80 is"), "{said}");
    Ok(())
}

/// The mesh, each of it found by its addresses, and pods by their Services'.
fn by_address(shop: &Shop) -> Vec<Change> {
    let pod = |pod: &testkit::Pod, services: &[&str], vips: &[&str]| {
        let own = [format!("/{}", pod.v4()), format!("/{}", pod.v6())];
        let own = own.each_ref().map(String::as_str);
        set_workload(workload(pod, services, &[])).called(&own).found_by(vips)
    };
    vec![
        pod(&shop.client, &[], &[]),
        pod(&shop.old, &["web", "old"], &["/10.96.0.10", "/10.96.0.11"]),
        pod(&shop.new, &["web", "new"], &["/10.96.0.10", "/10.96.0.12"]),
        set_service(web()).called(&["/10.96.0.10"]),
        set_service(service("shop", "old", vip(11))).called(&["/10.96.0.11"]),
        set_service(service("shop", "new", vip(12))).called(&["/10.96.0.12"]),
    ]
}

fn asked(events: &[Event]) -> BTreeSet<String> {
    let subscribed = events.iter().filter_map(|event| match event {
        Event::Request(request) => Some(request.subscribe.clone()),
        _ => None,
    });
    subscribed.flatten().collect()
}
