//! The servers in pods answer as the programs they are, without any proxy between. Needs root.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use testkit::{
    Node, Outcome, Server, block_on,
    grpc::{self, EchoServer, Words},
    http::{self, Connection},
};
use tonic::{Code, Request};

#[test]
fn nginx_tells_which_pod_it_is_and_who_asked() -> Outcome {
    let node = Node::new()?;
    let (client, web) = (node.pod("shop", "client")?, node.pod("shop", "web")?);
    let _nginx = Server::nginx(&web, 80)?;
    for to in [web.at(80), web.at_v6(80)] {
        let answer = http::get(&client, to, "web.shop", "/")?;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "web"));
    }
    let answer = http::get(&client, web.at(80), "web.shop", "/echo?x=1")?;
    let wanted = format!("pod=web peer={} method=GET host=web.shop uri=/echo?x=1", client.v4());
    assert_eq!(answer.text(), wanted);
    assert_eq!(http::get(&client, web.at(80), "web.shop", "/16k")?.body.len(), 16 * 1024);
    Ok(())
}

#[test]
fn nginx_that_cannot_start_says_why() -> Outcome {
    let node = Node::new()?;
    let web = node.pod("shop", "web")?;
    let refused = Server::nginx_with(&web, 80, "no_such_directive on;");
    let message = refused.err().ok_or("nginx took a directive that it does not know")?.to_string();
    assert!(message.contains("no_such_directive"), "{message}");
    Ok(())
}

#[test]
fn redis_speaks_its_own_protocol() -> Outcome {
    let node = Node::new()?;
    let (client, vault) = (node.pod("bank", "client")?, node.pod("bank", "vault")?);
    let _redis = Server::redis(&vault, 6379)?;
    let answer = client.run(|| {
        let mut stream = TcpStream::connect(vault.at(6379))?;
        stream.write_all(b"SET gold 12\r\nGET gold\r\nQUIT\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    })??;
    assert_eq!(answer, "+OK\r\n$2\r\n12\r\n+OK\r\n");
    Ok(())
}

#[test]
fn a_unary_call_is_answered_or_ends_with_status_and_trailer() -> Outcome {
    let node = Node::new()?;
    let (client, ledger) = (node.pod("bank", "client")?, node.pod("bank", "ledger")?);
    let _server = EchoServer::start(&ledger, ledger.at(50051))?;
    let reply = grpc::say(&client, ledger.at(50051), "ledger.bank", words("balance"))?;
    assert_eq!((reply.text.as_str(), reply.server.as_str()), ("balance", "ledger"));
    assert!(reply.peer.starts_with(&client.v4().to_string()), "{}", reply.peer);

    let refusal = Words { status: Code::ResourceExhausted.into(), ..words("too much") };
    match grpc::say(&client, ledger.at(50051), "ledger.bank", refusal) {
        Err(grpc::CallError::Status(status)) => {
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert_eq!(status.metadata().get(grpc::TRAILER).map(|v| v.as_bytes()), Some(&b"ledger"[..]));
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn streams_of_all_three_kinds_arrive_whole_and_in_order() -> Outcome {
    let node = Node::new()?;
    let (client, ledger) = (node.pod("bank", "client")?, node.pod("bank", "ledger")?);
    let _server = EchoServer::start(&ledger, ledger.at(50051))?;
    client.run(|| {
        block_on(async {
            let mut caller = grpc::connect(ledger.at(50051), "ledger.bank").await?;
            let mut replies = caller.expand(Words { replies: 3, ..words("x") }).await?.into_inner();
            for index in 0..3 {
                assert_eq!(replies.message().await?.map(|reply| reply.index), Some(index));
            }
            assert_eq!(replies.message().await?, None);

            let said = futures_util::stream::iter([words("a"), words("b")]);
            let reply = caller.collect(Request::new(said)).await?.into_inner();
            assert_eq!((reply.text.as_str(), reply.index), ("a b", 2));

            let failing = Words { status: Code::Aborted.into(), ..words("stop") };
            let said = futures_util::stream::iter([words("a"), failing]);
            let mut replies = caller.chat(Request::new(said)).await?.into_inner();
            assert_eq!(replies.message().await?.map(|reply| reply.text), Some("a".into()));
            let ending = replies.message().await.expect_err("the server was asked to fail");
            assert_eq!(ending.code(), Code::Aborted);
            assert!(ending.metadata().contains_key(grpc::TRAILER));
            Ok(())
        })
    })?
}

#[test]
fn a_call_that_its_caller_gives_up_is_counted_by_the_server() -> Outcome {
    let node = Node::new()?;
    let (client, ledger) = (node.pod("bank", "client")?, node.pod("bank", "ledger")?);
    let server = EchoServer::start(&ledger, ledger.at(50051))?;
    client.run(|| {
        block_on(async {
            let mut caller = grpc::connect(ledger.at(50051), "ledger.bank").await?;
            let endless = Words { replies: u32::MAX, delay_ms: 1, ..words("x") };
            let mut replies = caller.expand(endless).await?.into_inner();
            replies.message().await?;
            drop(replies);
            for _ in 0..3000 {
                if server.cancelled() == 1 {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err("the server never heard of the reset".into())
        })
    })?
}

#[test]
fn one_connection_carries_several_requests_in_http2_too() -> Outcome {
    let node = Node::new()?;
    let (client, ledger) = (node.pod("bank", "client")?, node.pod("bank", "ledger")?);
    let _server = EchoServer::start(&ledger, ledger.at(50051))?;
    let statuses = client.run(|| {
        block_on(async {
            let mut connection = Connection::http2(ledger.at(50051)).await?;
            let first = connection.get("ledger.bank", "/no.such.Service/Method").await?;
            let second = connection.get("ledger.bank", "/no.such.Service/Method").await?;
            Ok::<_, http::RequestError>([first, second].map(|a| a.header("grpc-status").to_owned()))
        })
    })??;
    // UNIMPLEMENTED, twice.
    assert_eq!(statuses, ["12", "12"]);
    Ok(())
}

fn words(text: &str) -> Words {
    Words { text: text.into(), ..Words::default() }
}
