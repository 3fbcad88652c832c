//! A tenant at the limits of its budget is refused early and told why; another one does not notice. A budget changes while
//! everything runs.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use e2e::{HTTP, Listener, Origin, Stage, Traffic, dial, eventually, port};
use testkit::{
    KitError, Outcome, Pod, block_on,
    grpc::{self, CallError, EchoServer, Words},
    http::{self, Connection},
};
use tonic::Code;

/// The namespace `shop`, with this budget.
fn tenant(budget: &str) -> String {
    tenant_of("shop", budget)
}

fn tenant_of(namespace: &str, budget: &str) -> String {
    format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: bounded}}\n\
         spec: {{namespaces: [{namespace}], budget: {budget}}}\n"
    )
}

/// How many requests of so many, on one connection and as fast as they go, have this status.
fn count(from: &Pod, to: SocketAddr, (requests, status): (usize, u16)) -> Result<usize, KitError> {
    from.run(|| {
        block_on(async {
            let mut connection = Connection::http1(to).await.expect("a connection");
            let mut counted = 0;
            for _ in 0..requests {
                let answer = connection.get("web", "/").await.expect("an answer");
                counted += usize::from(answer.status == status);
            }
            counted
        })
    })
}

#[test]
fn a_tenant_beyond_its_requests_a_second_is_told_when_to_come_back_and_its_neighbour_is_served() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let (other, ledger) = (stage.pod("bank", "other", &[])?, stage.pod("bank", "ledger", &[HTTP])?);
    let to_web = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?.at(80);
    let to_ledger = stage.service(("bank", "ledger"), 11, &[HTTP], &[&ledger])?.at(80);
    let (_web, _ledger) = (Origin::start(&web, 80)?, Origin::start(&ledger, 80)?);
    stage.manifests.write("tenant.yaml", &tenant("{requestsPerSecond: 20}"))?;
    let mut daemon = stage.daemon()?;
    let victim = Traffic::start(&other, to_ledger, "ledger")?;
    victim.next(20)?;

    let refused = count(&client, to_web, (500, 429))?;
    assert!(refused >= 300, "{refused} of 500 were beyond the rate");
    let line = daemon.wait_logged(|line| line["reason"] == "request_rate")?;
    assert_eq!((&line["tenant"], &line["status"]), (&"bounded".into(), &429.into()), "{line}");
    let labels = &["tenant=\"bounded\"", "reason=\"request_rate\""];
    assert_eq!(daemon.metric("canopy_refused_total", labels)?, refused as f64);
    let meanwhile = victim.next(50)?;
    assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");

    // Who does as the answer says is served.
    let mut waited = Duration::ZERO;
    loop {
        let answer = http::get(&client, to_web, "web", "/")?;
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.header("canopy-refused"), "request_rate");
        let after: u64 = answer.header("retry-after").parse()?;
        assert!((1..=2).contains(&after), "{after} s");
        thread::sleep(Duration::from_secs(after));
        waited += Duration::from_secs(after);
        assert!(waited <= Duration::from_secs(2), "it was told the wrong time");
    }

    stage.put(&daemon, "tenant.yaml", &tenant("{}"))?;
    assert_eq!(count(&client, to_web, (500, 200))?, 500, "a budget that says nothing refuses nothing");
    stage.put(&daemon, "tenant.yaml", &tenant("{requestsPerSecond: 20}"))?;
    assert!(count(&client, to_web, (500, 429))? >= 300, "and one that is back does again");
    Ok(())
}

/// Whether `connect` itself fails, by a hook's word.
fn is_denied(from: &Pod, to: SocketAddr) -> bool {
    dial(from, to).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[test]
fn connections_beyond_a_workloads_or_a_tenants_fail_in_connect_and_those_that_are_there_go_on() -> Outcome {
    let stage = Stage::new()?;
    let (first, second) = (stage.pod("shop", "first", &[])?, stage.pod("shop", "second", &[])?);
    let echo = stage.pod("bank", "echo", &[port("tcp", 9000)])?;
    let to = stage.service(("bank", "echo"), 10, &[port("tcp", 9000)], &[&echo])?.at(9000);
    let _server = Listener::echo(&echo, echo.at(9000))?;
    stage.manifests.write("tenant.yaml", &tenant("{connections: 5, connectionsPerWorkload: 3}"))?;
    let daemon = stage.daemon()?;
    let open =
        || daemon.metric("canopy_accept_connections_open", &["tenant=\"bounded\""]).unwrap_or_default();
    let refused = |reason: &str| {
        let reason = format!("reason=\"{reason}\"");
        daemon.metric("canopy_refused_total", &["tenant=\"bounded\"", &reason]).unwrap_or_default()
    };
    let mut held = Vec::new();
    for number in 1..=3 {
        held.push(dial(&first, to)?);
        eventually("it is accepted", || open() >= f64::from(number))?;
    }
    // The gates are told to the kernel right after the pods are enrolled.
    let accepted =
        || daemon.metric("canopy_accept_connections_total", &["tenant=\"bounded\""]).unwrap_or_default();
    eventually("a fourth of the first fails", || is_denied(&first, to))?;
    let (before, early) = (accepted(), refused("workload_connection_limit"));
    for _ in 0..20 {
        assert!(is_denied(&first, to));
    }
    eventually("they are counted", || refused("workload_connection_limit") >= early + 20.0)?;
    assert_eq!(accepted(), before, "the daemon has seen nothing of them");
    for number in 4..=5 {
        held.push(dial(&second, to)?);
        eventually("it is accepted", || open() >= f64::from(number))?;
    }
    assert!(is_denied(&second, to), "a sixth of both");
    eventually("it is counted", || refused("connection_limit") >= 1.0)?;
    held.pop();
    eventually("there is room for one", || dial(&second, to).is_ok())?;
    eventually("and it has gone", || open() == 4.0)?;
    stage.put(&daemon, "tenant.yaml", &tenant("{connections: 2}"))?;
    assert_eq!(open(), 4.0, "nothing that is there is ended");
    eventually("there is no room", || is_denied(&second, to))?;
    drop(held);
    eventually("they are gone", || open() == 0.0)?;
    let _next = dial(&second, to)?;
    eventually("there is room again", || open() == 1.0)?;
    Ok(())
}

#[test]
fn what_the_receivers_budget_refuses_is_the_receivers_reason_in_both_logs() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    let echo = stage.pod("bank", "echo", &[port("tcp", 9000)])?;
    let to = stage.service(("bank", "echo"), 10, &[port("tcp", 9000)], &[&echo])?.at(9000);
    let _server = Listener::echo(&echo, echo.at(9000))?;
    stage.manifests.write("tenant.yaml", &tenant_of("bank", "{connectionsPerSecond: 2}"))?;
    let mut daemon = stage.daemon()?;
    let echoes = || -> io::Result<TcpStream> {
        let mut stream = dial(&client, to)?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        Ok(stream)
    };
    let outcomes: Vec<_> = (0..20).map(|_| echoes()).collect();
    let (served, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.is_ok());
    assert!(served.len() >= 2 && refused.len() >= 5, "{outcomes:?}");
    for (tenant, direction) in [("bounded", "inbound"), ("ns/shop", "outbound")] {
        let line =
            daemon.wait_logged(|line| line["tenant"] == tenant && line["reason"] == "connection_rate")?;
        assert_eq!(line["direction"], direction, "{line}");
    }
    Ok(())
}

#[test]
fn a_tenant_that_takes_all_the_memory_it_can_loses_its_newest_connections_and_nobody_else_notices() -> Outcome
{
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let (other, ledger) = (stage.pod("bank", "other", &[])?, stage.pod("bank", "ledger", &[HTTP])?);
    let to_web = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?.at(80);
    let to_ledger = stage.service(("bank", "ledger"), 11, &[HTTP], &[&ledger])?.at(80);
    let (_web, _ledger) = (Origin::start(&web, 80)?, Origin::start(&ledger, 80)?);
    stage.manifests.write("tenant.yaml", &tenant("{memory: {soft: 4Mi, hard: 6Mi}}"))?;
    let daemon = stage.daemon()?;
    let victim = Traffic::start(&other, to_ledger, "ledger")?;
    victim.next(20)?;
    let refused = |reason: &str| {
        let reason = format!("reason=\"{reason}\"");
        daemon.metric("canopy_refused_total", &["tenant=\"bounded\"", &reason]).unwrap_or_default()
    };
    // Heads that have begun and do not end, on connections that were let in before the first of them: above the soft bound no
    // other would be.
    let head = format!("GET / HTTP/1.1\r\nhost: web\r\nx-much: {}", "x".repeat(50_000));
    let mut held: Vec<_> = (0..200).map(|_| dial(&client, to_web)).collect::<io::Result<_>>()?;
    daemon.wait_metric("canopy_accept_connections_open", &["tenant=\"bounded\""], 200.0)?;
    held.retain_mut(|stream| stream.write_all(head.as_bytes()).is_ok());
    eventually("the newest are ended", || refused("memory_shed") >= 1.0)?;
    let meanwhile = victim.next(50)?;
    assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");
    drop(held);
    eventually("it is served again", || {
        http::get(&client, to_web, "web", "/").is_ok_and(|answer| answer.status == 200)
    })?;
    assert_eq!(daemon.metric("canopy_forest_panics_total", &[])?, 0.0);
    Ok(())
}

#[test]
fn a_pod_beyond_its_tenants_connections_a_second_is_refused_in_connect_and_its_neighbour_is_not() -> Outcome {
    let stage = Stage::new()?;
    let (client, other) = (stage.pod("shop", "client", &[])?, stage.pod("bank", "other", &[])?);
    let echo = stage.pod("bank", "echo", &[port("tcp", 9000)])?;
    let to = stage.service(("bank", "echo"), 10, &[port("tcp", 9000)], &[&echo])?.at(9000);
    let _server = Listener::echo(&echo, echo.at(9000))?;
    stage.manifests.write("tenant.yaml", &tenant("{connectionsPerSecond: 5}"))?;
    let daemon = stage.daemon()?;
    let refused = |from: &Pod| {
        let failed =
            |_: &usize| dial(from, to).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        (0..200).filter(failed).count()
    };
    // The rate is told to the kernel right after the pod is enrolled.
    eventually("it is refused", || refused(&client) >= 100)?;
    let labels = &["tenant=\"bounded\"", "reason=\"connection_rate\""];
    eventually("it is counted", || {
        daemon.metric("canopy_refused_total", labels).is_ok_and(|count| count >= 100.0)
    })?;
    assert_eq!(refused(&other), 0);
    stage.put(&daemon, "tenant.yaml", &tenant("{}"))?;
    assert_eq!(refused(&client), 0, "a budget that says nothing refuses nothing");
    Ok(())
}

#[test]
fn configuration_beyond_a_tenants_objects_is_not_in_force_and_its_owner_is_told() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let to_web = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?.at(80);
    let _web = Origin::start(&web, 80)?;
    stage.manifests.write("tenant.yaml", &tenant("{objects: 1}"))?;
    let daemon = stage.daemon()?;
    let labels = &["tenant=\"bounded\""];
    assert_eq!(daemon.metric("canopy_tenancy_objects_left_out", labels)?, 0.0);
    let one_more = "apiVersion: v1\nkind: Service\nmetadata: {name: zebra, namespace: shop}\n\
                    spec: {clusterIP: 10.96.7.7, ports: [{port: 80}]}\n";
    stage.put(&daemon, "zebra.yaml", one_more)?;
    daemon.wait_metric("canopy_tenancy_objects_left_out", labels, 1.0)?;
    eventually("its owner is told", || {
        let said = daemon.canopy(&["events", "--tenant", "bounded"]).map(|output| output.stdout);
        let said = said.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        said.contains("budget  your budget has no room for 1 of your objects")
    })?;
    assert_eq!(http::get(&client, to_web, "web", "/")?.status, 200, "the rest is as it was");
    stage.put(&daemon, "tenant.yaml", &tenant("{objects: 2}"))?;
    daemon.wait_metric("canopy_tenancy_objects_left_out", labels, 0.0)?;
    Ok(())
}

#[test]
fn a_grpc_client_reads_its_own_status_in_a_refusal() -> Outcome {
    let stage = Stage::new()?;
    let (client, ledger) =
        (stage.pod("shop", "client", &[])?, stage.pod("bank", "ledger", &[port("grpc", 9090)])?);
    let to = stage.service(("bank", "ledger"), 10, &[port("grpc", 9090)], &[&ledger])?.at(9090);
    let _server = EchoServer::start(&ledger, ledger.at(9090))?;
    stage.manifests.write("tenant.yaml", &tenant("{requestsPerSecond: 1}"))?;
    let daemon = stage.daemon()?;
    let words = || Words { text: "x".into(), ..Words::default() };
    let statuses = || (0..3).map(|_| grpc::say(&client, to, "ledger.bank", words())).collect::<Vec<_>>();
    let is = |status: Code, reason: &'static str| move |said: &Result<_, CallError>| matches!(said, Err(CallError::Status(said)) if said.code() == status && said.message() == reason);
    let said = statuses();
    assert!(said[0].is_ok(), "{said:?}");
    assert!(said[1..].iter().any(is(Code::ResourceExhausted, "request_rate")), "{said:?}");
    stage.put(&daemon, "tenant.yaml", &tenant("{requestsInFlight: 1}"))?;
    client.run(|| {
        block_on(async {
            let mut caller = grpc::connect(to, "ledger.bank").await?;
            let endless = Words { replies: u32::MAX, delay_ms: 1, ..words() };
            let mut replies = caller.expand(endless).await?.into_inner();
            replies.message().await?;
            let refused = caller.say(words()).await.expect_err("one is in flight");
            assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "request_limit"));
            drop(replies);
            let begun = tokio::time::Instant::now();
            while caller.say(words()).await.is_err() {
                assert!(begun.elapsed() < Duration::from_secs(30), "there is no room again");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Outcome::Ok(())
        })
    })??;
    Ok(())
}

#[test]
fn a_namespace_that_no_tenant_lists_has_the_defaults_budget_for_itself() -> Outcome {
    let stage = Stage::new()?;
    let web = stage.pod("web", "web", &[HTTP])?;
    let (one, two) = (stage.pod("one", "one", &[])?, stage.pod("two", "two", &[])?);
    let to = stage.service(("web", "web"), 10, &[HTTP], &[&web])?.at(80);
    let _origin = Origin::start(&web, 80)?;
    stage.manifests.write(
        "default.yaml",
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: others}\n\
         spec: {globalDefault: true, budget: {requestsPerSecond: 20}}\n",
    )?;
    let daemon = stage.daemon()?;
    assert!(count(&one, to, (300, 429))? >= 100);
    let labels = |tenant: &str| [format!("tenant=\"{tenant}\""), "reason=\"request_rate\"".to_owned()];
    let refused = |tenant: &str| {
        let [tenant, reason] = labels(tenant);
        daemon.metric("canopy_refused_total", &[&tenant, &reason]).unwrap_or_default()
    };
    assert!(refused("ns/one") >= 100.0);
    assert_eq!(count(&two, to, (10, 200))?, 10, "the other namespace has its own");
    Ok(())
}
