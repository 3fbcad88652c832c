//! gRPC through the proxy: all four kinds of call, their status and trailers, and resets; within a tenant and
//! across tenants.

use std::net::SocketAddr;

use e2e::{Stage, eventually, port};
use futures_util::stream;
use testkit::{
    Daemon, Outcome, Pod, block_on,
    grpc::{self, CallError, EchoServer, Words},
    http::{self, Connection},
};
use tonic::{Code, Request};

/// What is in the way of a call: nothing but one cell, or two.
const OWNERS: [&str; 2] = ["bank", "shop"];

#[test]
fn a_unary_call_is_answered_by_a_server_that_sees_its_caller() -> Outcome {
    with_echo(|set| {
        let reply = grpc::say(set.client, set.to, "ledger.bank", words("balance"))?;
        assert_eq!((reply.text.as_str(), reply.server.as_str()), ("balance", "ledger"));
        let own = set.client.v4().to_string();
        assert!(reply.peer.contains(&own), "{} is not of {own}", reply.peer);
        let line = set.daemon.wait_logged(|line| line["direction"] == "outbound")?;
        assert_eq!(line["protocol"], "h2", "{line}");
        assert_eq!(line["path"], "/canopy.testkit.Echo/Say", "{line}");
        Ok(())
    })
}

#[test]
fn a_status_other_than_success_arrives_with_its_message_and_trailers() -> Outcome {
    with_echo(|set| {
        let refusal = Words { status: Code::ResourceExhausted.into(), ..words("too much") };
        match grpc::say(set.client, set.to, "ledger.bank", refusal) {
            Err(CallError::Status(status)) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                assert!(status.message().contains("too much"), "{status}");
                assert_eq!(status.metadata().get(grpc::TRAILER).map(|v| v.as_bytes()), Some(&b"ledger"[..]));
            }
            other => return Err(format!("{other:?}").into()),
        }
        Ok(())
    })
}

#[test]
fn streams_of_all_three_kinds_arrive_whole_and_in_order() -> Outcome {
    with_echo(|set| {
        let to = set.to;
        set.client.run(|| block_on(all_streams(to)))?
    })
}

async fn all_streams(to: SocketAddr) -> Outcome {
    let mut caller = grpc::connect(to, "ledger.bank").await?;
    let mut replies = caller.expand(Words { replies: 300, ..words("x") }).await?.into_inner();
    for index in 0..300 {
        assert_eq!(replies.message().await?.map(|reply| reply.index), Some(index));
    }
    assert_eq!(replies.message().await?, None);

    let said = stream::iter((0..300).map(|number| words(&number.to_string())));
    let reply = caller.collect(Request::new(said)).await?.into_inner();
    let wanted: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    assert_eq!((reply.text, reply.index), (wanted.join(" "), 300));

    // Each word is said only when the one before was answered: neither direction waits for the other's end.
    let (speak, heard) = tokio::sync::mpsc::channel(1);
    let said = stream::unfold(heard, |mut heard| async { Some((heard.recv().await?, heard)) });
    speak.send(words("0")).await?;
    let mut replies = caller.chat(Request::new(said)).await?.into_inner();
    for index in 0..50 {
        assert_eq!(replies.message().await?.map(|reply| reply.text), Some(index.to_string()));
        speak.send(words(&(index + 1).to_string())).await?;
    }
    assert_eq!(replies.message().await?.map(|reply| reply.text), Some("50".into()));
    speak.send(Words { status: Code::Aborted.into(), ..words("stop") }).await?;
    let ending = replies.message().await.expect_err("the server was asked to fail");
    assert_eq!(ending.code(), Code::Aborted);
    assert!(ending.metadata().contains_key(grpc::TRAILER), "after replies, the trailers still come");
    Ok(())
}

#[test]
fn a_call_that_its_caller_gives_up_is_given_up_at_the_server() -> Outcome {
    with_echo(|set| {
        let (to, server) = (set.to, set.server);
        set.client.run(|| {
            block_on(async {
                let mut caller = grpc::connect(to, "ledger.bank").await?;
                let endless = Words { replies: u32::MAX, delay_ms: 1, ..words("x") };
                let mut replies = caller.expand(endless).await?.into_inner();
                replies.message().await?;
                drop(replies);
                // The connection stays, and other calls on it go on.
                let reply = caller.say(words("still there")).await?.into_inner();
                assert_eq!(reply.text, "still there");
                eventually("the server hears of the reset", || server.cancelled() == 1)?;
                Ok(())
            })
        })?
    })
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_stream_is_an_error_and_not_its_end() -> Outcome {
    for owner in OWNERS {
        let stage = Stage::new()?;
        let client = stage.pod(owner, "client", &[])?;
        let ledger = stage.pod("bank", "ledger", &[port("grpc", 9090)])?;
        let vip = stage.service(("bank", "ledger"), 10, &[port("grpc", 9090)], &[&ledger])?;
        let mut server = Some(EchoServer::start(&ledger, ledger.at(9090))?);
        let _daemon = stage.daemon()?;
        let ended = client.run(|| {
            block_on(async {
                let mut caller = grpc::connect(vip.at(9090), "ledger.bank").await?;
                let endless = Words { replies: u32::MAX, delay_ms: 1, ..words("x") };
                let mut replies = caller.expand(endless).await?.into_inner();
                replies.message().await?;
                drop(server.take());
                loop {
                    match replies.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => return Ok(None),
                        Err(status) => return Ok(Some(status)),
                    }
                }
            })
        })?;
        let ended: Result<_, Box<dyn std::error::Error + Send + Sync>> = ended;
        assert!(ended?.is_some(), "{owner}: a stream that broke off looks complete");
    }
    Ok(())
}

#[test]
fn a_refusal_is_one_that_grpc_clients_understand() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("bank", "client", &[])?;
    let vip = stage.service(("bank", "ledger"), 10, &[port("grpc", 9090)], &[])?;
    let _daemon = stage.daemon()?;
    match grpc::say(&client, vip.at(9090), "ledger.bank", words("anybody?")) {
        Err(CallError::Status(status)) => {
            assert_eq!((status.code(), status.message()), (Code::Unavailable, "no_endpoint"));
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

#[test]
fn several_requests_share_a_connection_with_prior_knowledge() -> Outcome {
    with_echo(|set| {
        let to = set.to;
        let statuses = set.client.run(|| {
            block_on(async {
                let mut connection = Connection::http2(to).await?;
                let first = connection.get("ledger.bank", "/no.such.Service/Method").await?;
                let second = connection.get("ledger.bank", "/no.such.Service/Method").await?;
                Ok::<_, http::RequestError>([first, second].map(|a| a.header("grpc-status").to_owned()))
            })
        })??;
        assert_eq!(statuses, ["12", "12"], "UNIMPLEMENTED, twice, by the server itself");
        let owner = format!("tenant=\"ns/{}\"", set.client.namespace());
        let inbound = if set.client.namespace() == "bank" { 0.0 } else { 1.0 };
        assert_eq!(set.daemon.metric("canopy_accept_connections_total", &[&owner])?, 1.0);
        assert_eq!(set.daemon.metric("canopy_accept_connections_total", &[])?, 1.0 + inbound);
        Ok(())
    })
}

/// GRPCRoutes of the server's owner, of a port that declares nothing: two methods to two servers, and none for the third.
#[test]
fn a_grpc_route_sends_calls_by_their_method_and_what_no_rule_matches_is_unimplemented() -> Outcome {
    for owner in OWNERS {
        let stage = Stage::new()?;
        let client = stage.pod(owner, "client", &[])?;
        let calls = [port("calls", 9090)];
        let [old, new] = [stage.pod("bank", "old", &calls)?, stage.pod("bank", "new", &calls)?];
        let vip = stage.service(("bank", "ledger"), 10, &calls, &[&old])?;
        stage.service(("bank", "newer"), 11, &calls, &[&new])?;
        let _servers = [EchoServer::start(&old, old.at(9090))?, EchoServer::start(&new, new.at(9090))?];
        stage.manifests.write("route.yaml", BY_METHOD)?;
        let mut daemon = stage.daemon()?;
        let to = vip.at(9090);
        let (said, collected, expanded) = client.run(|| {
            block_on(async {
                let mut caller = grpc::connect(to, "ledger.bank").await?;
                let said = caller.say(words("balance")).await?.into_inner();
                let heard = stream::iter([words("one"), words("two")]);
                let collected = caller.collect(Request::new(heard)).await?.into_inner();
                let expanded = caller.expand(Words { replies: 1, ..words("x") }).await.map(drop);
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>((said, collected, expanded))
            })
        })??;
        assert_eq!((said.server.as_str(), said.text.as_str()), ("old", "balance"), "a caller of {owner}");
        assert_eq!((collected.server.as_str(), collected.text.as_str()), ("new", "one two"), "of {owner}");
        let refused = expanded.expect_err("no rule is for it");
        assert_eq!((refused.code(), refused.message()), (Code::Unimplemented, "no_route"), "of {owner}");
        for (path, rule) in [("Say", Some("say")), ("Collect", Some("collect")), ("Expand", None)] {
            let path = format!("/canopy.testkit.Echo/{path}");
            let line = daemon.wait_logged(|line| line["direction"] == "outbound" && line["path"] == path)?;
            assert_eq!((line["protocol"].as_str(), line["rule"].as_str()), (Some("h2"), rule), "{line}");
            let kind = rule.map(|_| "GRPCRoute");
            assert_eq!(
                (line["route_kind"].as_str(), line["route"].as_str()),
                (kind, rule.map(|_| "bank/ledger"))
            );
        }
    }
    Ok(())
}

const BY_METHOD: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\n\
    metadata: {name: ledger, namespace: bank}\nspec:\n  \
    parentRefs: [{group: '', kind: Service, name: ledger, port: 9090}]\n  rules:\n  \
    - {name: say, matches: [{method: {service: canopy.testkit.Echo, method: Say}}], backendRefs: [{name: ledger, port: 9090}]}\n  \
    - {name: collect, matches: [{method: {method: Collect}}], backendRefs: [{name: newer, port: 9090}]}\n";

/// A caller, a server behind a Service, a daemon between.
struct Set<'a> {
    client: &'a Pod,
    server: &'a EchoServer,
    daemon: &'a mut Daemon,
    to: SocketAddr,
}

/// The same for a caller of the server's tenant and for one of another.
fn with_echo(test: impl Fn(Set<'_>) -> Outcome) -> Outcome {
    for owner in OWNERS {
        let stage = Stage::new()?;
        let client = stage.pod(owner, "client", &[])?;
        let ledger = stage.pod("bank", "ledger", &[port("grpc", 9090)])?;
        let vip = stage.service(("bank", "ledger"), 10, &[port("grpc", 9090)], &[&ledger])?;
        let server = EchoServer::start(&ledger, ledger.at(9090))?;
        let mut daemon = stage.daemon()?;
        let set = Set { client: &client, server: &server, daemon: &mut daemon, to: vip.at(9090) };
        test(set).map_err(|error| format!("a caller of the tenant {owner}: {error}"))?;
    }
    Ok(())
}

fn words(text: &str) -> Words {
    Words { text: text.into(), ..Words::default() }
}
