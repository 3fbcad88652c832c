//! Every tenant has a cell of its own: a thread, a ledger, a say in what it may call. Calls between tenants pass
//! through both.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
};

use e2e::{HTTP, Listener, Origin, Stage, ask, dial, eventually, head, is_reset, port};
use testkit::{Daemon, Outcome};

#[test]
fn each_tenant_is_served_by_a_thread_of_its_own_that_ends_with_its_last_pod() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let _idle = stage.pod("bank", "idle", &[])?;
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    let daemon = stage.daemon()?;
    let before = threads(&daemon)?;
    let ((_, shop_before), (_, bank_before)) = (before["shop"], before["bank"]);
    assert_ne!(before["shop"].0, before["bank"].0);
    ask(&client, vip.at(80), 500)?;
    let after = threads(&daemon)?;
    let (shop, bank) = (after["shop"].1 - shop_before, after["bank"].1 - bank_before);
    assert!(shop > 10 * bank, "500 requests of shop's: {shop} ns of its thread, {bank} ns of bank's");

    stage.manifests.remove("bank-idle-pod.yaml")?;
    eventually("bank's thread ends", || threads(&daemon).is_ok_and(|now| !now.contains_key("bank")))?;
    assert_eq!(threads(&daemon)?["shop"].0, before["shop"].0, "shop's is still the same");
    let _teller = stage.pod("bank", "teller", &[])?;
    eventually("bank has a thread again", || threads(&daemon).is_ok_and(|now| now.contains_key("bank")))?;
    Ok(())
}

#[test]
fn namespaces_that_a_tenant_lists_share_its_cell() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("front", "client", &[])?, stage.pod("back", "web", &[HTTP])?);
    let vip = stage.service(("back", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    stage.manifests.write("tenant.yaml", &tenant("shop", "front, back", "any"))?;
    let mut daemon = stage.daemon()?;
    ask(&client, vip.at(80), 1)?;
    let line = daemon.wait_logged(|line| line["dst.service"] == "back/web")?;
    assert_eq!((&line["tenant"], &line["delivery"]), (&"shop".into(), &"direct".into()), "{line}");
    let names = threads(&daemon)?;
    assert!(names.contains_key("shop") && !names.contains_key("front") && !names.contains_key("back"));
    Ok(())
}

#[test]
fn a_call_to_another_tenant_passes_through_both_cells() -> Outcome {
    let stage = Stage::new()?;
    let (client, ledger) = (stage.pod("shop", "client", &[])?, stage.pod("bank", "ledger", &[HTTP])?);
    let vip = stage.service(("bank", "ledger"), 10, &[HTTP], &[&ledger])?;
    let origin = Origin::start(&ledger, 80)?;
    let mut daemon = stage.daemon()?;
    for to in [vip.at(80), vip.at_v6(80)] {
        ask(&client, to, 1)?;
        let own = if to.is_ipv4() { client.v4().to_string() } else { client.v6().to_string() };
        let out = daemon.wait_logged(|line| line["dst.addr"] == to.to_string())?;
        for (field, wanted) in [
            ("tenant", "ns/shop"),
            ("direction", "outbound"),
            ("workload", "shop/client"),
            ("dst.service", "bank/ledger"),
            ("dst.workload", "bank/ledger"),
        ] {
            assert_eq!(out[field], wanted, "{field} of {out}");
        }
        let seen = origin.seen().pop().ok_or("the application saw a request")?;
        assert_eq!(seen.peer.ip().to_canonical().to_string(), own, "the application sees its true caller");
    }
    // What was kept for the caller's next request ends with the caller.
    stage.manifests.remove("shop-client-pod.yaml")?;
    for (at, own) in [(ledger.at(80), client.v4().to_string()), (ledger.at_v6(80), client.v6().to_string())] {
        let into = daemon.wait_logged(|line| line["dst.addr"] == at.to_string())?;
        for (field, wanted) in [
            ("tenant", "ns/bank"),
            ("direction", "inbound"),
            ("workload", "bank/ledger"),
            ("src.workload", "shop/client"),
            ("delivery", "local"),
        ] {
            assert_eq!(into[field], wanted, "{field} of {into}");
        }
        let source: std::net::SocketAddr = into["src.addr"].as_str().unwrap_or_default().parse()?;
        assert_eq!(source.ip().to_string(), own);
    }
    Ok(())
}

#[test]
fn a_tenant_that_is_kept_to_the_mesh_reaches_nothing_outside() -> Outcome {
    let stage = Stage::new()?;
    let (client, free) = (stage.pod("shop", "client", &[])?, stage.pod("bank", "free", &[])?);
    let web = stage.pod("shop", "web", &[HTTP])?;
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    let outside = stage.node.pod("away", "outside")?;
    let _echo = Listener::echo(&outside, outside.at(7000))?;
    let _http = Origin::start(&outside, 80)?;
    stage.manifests.write("tenant.yaml", &tenant("shop", "shop", "mesh"))?;
    let mut daemon = stage.daemon()?;
    for to in [outside.at(7000), outside.at(80)] {
        let end = dial(&client, to).and_then(|mut stream| {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
            stream.read(&mut [0; 64])
        });
        assert!(is_reset(&end), "{to}: {end:?}");
        let line = daemon.wait_logged(|line| line["dst.addr"] == to.to_string())?;
        assert_eq!(
            (&line["reason"], &line["tenant"]),
            (&"egress_forbidden".into(), &"shop".into()),
            "{line}"
        );
    }
    let refused = ["tenant=\"shop\"", "reason=\"egress_forbidden\""];
    daemon.wait_metric("canopy_refused_total", &refused, 2.0)?;
    ask(&client, vip.at(80), 1)?;
    ask(&free, outside.at(80), 1)?;

    stage.manifests.write("tenant.yaml", &tenant("shop", "shop", "any"))?;
    eventually("an edit sets it free", || ask(&client, outside.at(80), 1).is_ok())?;
    Ok(())
}

#[test]
fn a_permission_that_is_taken_away_ends_what_it_allowed() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("bank", "web", &[HTTP])?);
    let vip = stage.service(("bank", "web"), 10, &[HTTP], &[&web])?;
    let outside = stage.node.pod("away", "outside")?;
    let (_away, _origin) = (Origin::start(&outside, 80)?, Origin::start(&web, 80)?);
    stage.manifests.write("tenant.yaml", &tenant("shop", "shop", "any"))?;
    let mut daemon = stage.daemon()?;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let (mut kept, mut stays) = (dial(&client, outside.at(80))?, dial(&client, vip.at(80))?);
    for stream in [&mut kept, &mut stays] {
        stream.write_all(request)?;
        assert!(head(stream)?.starts_with("HTTP/1.1 200 "));
    }
    stage.manifests.write("tenant.yaml", &tenant("shop", "shop", "mesh"))?;
    // Whatever of the last answer is still to come, then the reset.
    let end = kept.read_to_end(&mut Vec::new());
    assert!(is_reset(&end), "{end:?}");
    let line = daemon.wait_logged(|line| line["dst.addr"] == outside.at(80).to_string())?;
    assert_eq!(line["reason"], "egress_forbidden", "{line}");
    stays.write_all(request)?;
    assert!(head(&mut stays)?.starts_with("HTTP/1.1 200 "), "what is still permitted goes on");
    Ok(())
}

#[test]
fn ledgers_of_the_tenants_add_up_to_what_was_sent() -> Outcome {
    let stage = Stage::new()?;
    let (client, teller) = (stage.pod("shop", "client", &[])?, stage.pod("bank", "teller", &[])?);
    let (web, ledger) =
        (stage.pod("shop", "web", &[HTTP])?, stage.pod("bank", "ledger", &[port("http", 80)])?);
    let web_vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let ledger_vip = stage.service(("bank", "ledger"), 11, &[HTTP], &[&ledger])?;
    let origins = [Origin::start(&web, 80)?, Origin::start(&ledger, 80)?];
    let daemon = stage.daemon()?;
    // Within shop 30, from shop to bank 20, within bank 7, from bank to shop 5.
    ask(&client, web_vip.at(80), 30)?;
    ask(&client, ledger_vip.at(80), 20)?;
    ask(&teller, ledger_vip.at(80), 7)?;
    ask(&teller, web_vip.at(80), 5)?;
    assert_eq!(origins.each_ref().map(|origin| origin.seen().len()), [35, 27]);
    // Requests are the caller's; what comes from another tenant is bytes, and one connection for all of it.
    for (name, tenant, count) in [
        ("canopy_relay_requests_total", "shop", 30 + 20),
        ("canopy_relay_requests_total", "bank", 7 + 5),
        ("canopy_accept_connections_total", "shop", 2 + 1),
        ("canopy_accept_connections_total", "bank", 2 + 1),
    ] {
        daemon.wait_metric(name, &[&format!("tenant=\"ns/{tenant}\"")], f64::from(count))?;
    }
    let in_flight = || daemon.metric("canopy_relay_requests_in_flight", &[]);
    eventually("none is in flight", || in_flight().is_ok_and(|count| count == 0.0))?;
    let lines = |direction: &str, tenant: &str| {
        let log = daemon.access_log();
        log.iter()
            .filter(|line| line["direction"] == direction && line["tenant"] == format!("ns/{tenant}"))
            .count()
    };
    // What was kept for the callers' next requests ends with the callers.
    stage.manifests.remove("shop-client-pod.yaml")?;
    stage.manifests.remove("bank-teller-pod.yaml")?;
    eventually(
        "a line for every request at its caller's, and for every connection at its receiver's",
        || {
            let told = [("outbound", "shop"), ("inbound", "shop"), ("outbound", "bank"), ("inbound", "bank")];
            told.map(|(direction, tenant)| lines(direction, tenant)) == [50, 1, 12, 1]
        },
    )?;
    Ok(())
}

fn tenant(name: &str, namespaces: &str, egress: &str) -> String {
    format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n\
         spec: {{namespaces: [{namespaces}], egress: {egress}}}\n"
    )
}

/// The daemon's threads by name: id, and nanoseconds of CPU time.
fn threads(daemon: &Daemon) -> Result<BTreeMap<String, (u32, u64)>, std::io::Error> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        let path = entry?.path();
        // A thread may end between two looks.
        let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
        let Ok(used) = fs::read_to_string(path.join("schedstat")) else { continue };
        let id = path.file_name().and_then(|id| id.to_str()?.parse().ok()).unwrap_or_default();
        let used = used.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
        threads.insert(name.trim().to_owned(), (id, used));
    }
    Ok(threads)
}
