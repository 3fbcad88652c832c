//! Two nodes and the wire between them: their pods reach each other across it, and a capture sees what crosses, only that.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use testkit::{Addresses, Capture, Node, Outcome, Pod, block_on, http};

#[test]
fn pods_of_two_nodes_reach_each_other_over_both_families() -> Outcome {
    let near = Node::new()?;
    let far = near.beside()?;
    let (client, server) = (near.pod("kit", "client")?, far.pod("kit", "server")?);
    assert_eq!(server.v4(), Addresses::of_host_beside(10).v4);
    let _nginx = testkit::Server::nginx(&server, 8080)?;
    for target in [server.at(8080), server.at_v6(8080)] {
        let answer = client.run(|| block_on(http::Connection::http1(target)).map(drop))?;
        assert!(answer.is_ok(), "{target}: {answer:?}");
    }
    Ok(())
}

#[test]
fn what_crosses_the_wire_is_captured_and_what_stays_on_a_node_is_not() -> Outcome {
    let near = Node::new()?;
    let far = near.beside()?;
    let client = near.pod("kit", "client")?;
    let (neighbour, stranger) = (near.pod("kit", "neighbour")?, far.pod("kit", "stranger")?);
    for (to, at, crosses) in [
        (&neighbour, neighbour.at(7000), false),
        (&stranger, stranger.at(7000), true),
        (&stranger, stranger.at_v6(7001), true),
    ] {
        // A busy machine acknowledges late, and then something is sent twice: another try shows that it is not seen twice.
        let (mut seen, mut at) = (Vec::new(), at);
        for _ in 0..TRIES {
            at.set_port(at.port() + 1);
            let capture = Capture::start(&near)?;
            say(&client, to, at, b"the words of the caller")?;
            seen = capture.finish()?;
            if seen.iter().filter(|segment| !segment.payload.is_empty()).count() <= 1 {
                break;
            }
        }
        let carried: Vec<_> = seen.iter().filter(|segment| !segment.payload.is_empty()).collect();
        assert_eq!(!carried.is_empty(), crosses, "{at}: {seen:?}");
        if crosses {
            assert!(seen[0].opens && carried.len() == 1, "each frame once: {seen:?}");
            assert_eq!(carried[0].destination, at, "{seen:?}");
            assert!(seen.iter().all(|segment| segment.port_of(at.ip()) == Some(at.port())), "{seen:?}");
            assert_eq!(carried[0].payload, b"the words of the caller", "{seen:?}");
        }
    }
    Ok(())
}

const TRIES: usize = 5;

/// One connection from pod to pod, with these bytes.
fn say(from: &Pod, to: &Pod, at: SocketAddr, words: &[u8]) -> Outcome {
    let listener = to.run(|| TcpListener::bind(at))??;
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        listener.accept()?.0.read_to_end(&mut heard)?;
        std::io::Result::Ok(heard)
    });
    from.run(|| TcpStream::connect(at)?.write_all(words))??;
    let heard = heard.join().map_err(|_panic| "the listener panicked")??;
    assert_eq!(heard, words);
    Ok(())
}
