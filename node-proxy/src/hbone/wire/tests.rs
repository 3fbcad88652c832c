//! What a wire holds back, and that nothing stays with it.

use std::{net::Ipv4Addr, time::Duration};

use bytes::Buf;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, server};

use super::*;
use crate::identity::testing::{TestAuthority, credentials};

/// Small, so that little fills them.
const BUFFER: usize = 8 << 10;

/// Two ends of TLS over a loopback connection with small buffers.
async fn ends() -> (Wire, server::TlsStream<TcpStream>) {
    let cart = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
    let authority = TestAuthority::new();
    let (credentials, _kept) = credentials(authority.sources(), std::slice::from_ref(&cart));
    let server = credentials.server(&cart).await.unwrap();
    let client = credentials.client(&cart, std::slice::from_ref(&cart)).await.unwrap();
    let listener = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
    listener.set_recv_buffer_size(BUFFER).unwrap();
    listener.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(1).unwrap();
    let listener = TcpListener::from_std(listener.into()).unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    socket2::SockRef::from(&socket).set_send_buffer_size(BUFFER).unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let name = rustls::pki_types::ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let (client, server) = tokio::join!(
        TlsConnector::from(client).connect(name, ReadAhead::new(socket)),
        TlsAcceptor::from(server).accept(accepted)
    );
    (Wire::new(client.unwrap().into(), None), server.unwrap())
}

#[tokio::test]
async fn what_the_socket_did_not_take_at_once_is_sent_although_nothing_is_written_any_more() {
    let sent = async {
        let (wire, mut peer) = ends().await;
        let block = vec![7; 4 * RECORD];
        let mut written = 0;
        poll_fn(|cx| {
            while let Poll::Ready(taken) = Pin::new(&mut wire.clone()).poll_write(cx, &block) {
                written += taken.unwrap();
            }
            Poll::Ready(())
        })
        .await;
        assert!(written > BUFFER, "{written}");
        let driver = poll_fn(|cx| {
            let sent = wire.poll_send(cx);
            assert!(!matches!(sent, Poll::Ready(Err(_))), "{sent:?}");
            Poll::<()>::Pending
        });
        let mut received = vec![0; written];
        tokio::select! {
            read = timeout(Duration::from_secs(60), peer.read_exact(&mut received)) => read.unwrap().unwrap(),
            () = driver => unreachable!("it drives for ever"),
        };
        assert!(received.iter().all(|byte| *byte == 7));
    };
    LocalSet::new().run_until(sent).await;
}

#[tokio::test]
async fn small_frames_and_bulk_arrive_in_the_order_in_which_they_were_written() {
    let sent = async {
        let (wire, mut peer) = ends().await;
        let payload: Vec<u8> = (0..9 * RECORD).map(|number| (number % 251) as u8).collect();
        // As much as gathers before bulk: of some, TLS has only room for a part at that moment.
        let small = [19, RECORD - 1, RECORD - 7_000, 5, RECORD - 300];
        let mut expected = Vec::new();
        for small in small {
            expected.extend(std::iter::repeat_n(b's', small));
            expected.extend_from_slice(b"the head ");
            expected.extend_from_slice(&payload);
        }
        let mut writer = wire.clone();
        let writing = async {
            for small in small {
                writer.write_all(&vec![b's'; small]).await.unwrap();
                let mut rest = Buf::chain(io::Cursor::new(b"the head "), io::Cursor::new(&payload));
                while rest.has_remaining() {
                    writer.write_buf(&mut rest).await.unwrap();
                }
            }
            poll_fn(|cx| wire.poll_send(cx)).await.unwrap();
        };
        let mut received = vec![0; expected.len()];
        let reading = timeout(Duration::from_secs(60), peer.read_exact(&mut received));
        let ((), read) = tokio::join!(writing, reading);
        read.unwrap().unwrap();
        assert!(received == expected);
        assert!(wire.0.io.borrow().gathered.is_empty());
    };
    LocalSet::new().run_until(sent).await;
}

/// Of what has gathered TLS takes a part, then all of it and nothing of the bulk, then all and a byte of the bulk.
#[tokio::test]
async fn what_has_gathered_goes_before_bulk_also_where_tls_takes_only_a_part_of_it() {
    let sent = async {
        for room in [GATHERED / 4, GATHERED, GATHERED + 1] {
            let (wire, mut peer) = ends().await;
            if let TlsStream::Client(tls) = &mut wire.0.io.borrow_mut().tls {
                tls.get_mut().1.set_buffer_limit(Some(room));
            }
            let bulk: Vec<u8> = (0..2 * RECORD).map(|number| (number % 251) as u8).collect();
            let expected = [&vec![b's'; GATHERED][..], &bulk].concat();
            let mut writer = wire.clone();
            let writing = async {
                writer.write_all(&expected[..GATHERED]).await.unwrap();
                assert_eq!(wire.0.io.borrow().gathered.len(), GATHERED, "it waits for more");
                writer.write_all(&bulk).await.unwrap();
                poll_fn(|cx| wire.poll_send(cx)).await.unwrap();
            };
            let mut received = vec![0; expected.len()];
            let reading = timeout(Duration::from_secs(60), peer.read_exact(&mut received));
            let ((), read) = tokio::join!(writing, reading);
            read.unwrap().unwrap();
            assert!(received == expected, "room for {room}");
        }
    };
    LocalSet::new().run_until(sent).await;
}

const GATHERED: usize = RECORD - 1000;
