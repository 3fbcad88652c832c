//! What only a socket has: an other end that may be another process, may die, and may say anything.

use std::os::fd::AsFd as _;

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// An accepted opener's end, and the bare socket of a receiver that says what it likes.
async fn opened() -> (SocketEnd, OwnedFd) {
    let (near, far) = pair().unwrap();
    let far = far.into_descriptor().unwrap();
    say(&far, b"t");
    near.answered().await.unwrap();
    (near, far)
}

fn say(socket: &OwnedFd, packet: &[u8]) {
    send(socket, packet, SendFlags::NOSIGNAL).unwrap();
}

#[tokio::test]
async fn a_process_that_dies_has_finished_nothing() {
    let (mut near, far) = opened().await;
    say(&far, b"bhalf");
    // As the kernel closes what a killed process had open.
    drop(far);
    let mut bytes = Vec::new();
    let end = near.read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!((&bytes[..], end.kind()), (&b"half"[..], io::ErrorKind::ConnectionReset));
    let (near, far) = pair().unwrap();
    drop(far.into_descriptor());
    assert_eq!(near.answered().await, Err(Reason::CellRestarted), "nor has it taken anything");
    let (mut near, far) = opened().await;
    // It had not read all: the kernel says so first, and the bytes it had sent come after.
    near.write_all(b"unread").await.unwrap();
    say(&far, b"bhalf");
    say(&far, b"e");
    drop(far);
    let mut bytes = Vec::new();
    near.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"half", "and what it had ended is the whole");
}

#[tokio::test]
async fn what_nobody_of_this_build_says_cuts_the_connection() {
    for packet in [&b"x"[..], b"b", b"e!", b"t", b"rwhatever", b"cwhatever", &[b'b'; 40_000]] {
        let (mut near, far) = opened().await;
        say(&far, packet);
        let read = near.read(&mut [0; 32]).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{:?}", &packet[..1]);
        assert!(near.write(b"more").await.is_err());
    }
    for packet in [&b"bearly"[..], b"x", b"rwhatever", b"e"] {
        let (near, far) = pair().unwrap();
        let far = far.into_descriptor().unwrap();
        say(&far, packet);
        assert_eq!(near.answered().await, Err(Reason::CellRestarted), "{packet:?}");
    }
    let (near, far) = pair().unwrap();
    let near = near.into_descriptor().unwrap();
    far.accept().unwrap();
    let mut far = far;
    say(&near, b"rpolicy_denied");
    let refused = far.read(&mut [0]).await.unwrap_err();
    assert_eq!((refused.kind(), crate::stream::told(&refused)), (io::ErrorKind::ConnectionReset, None));
}

#[tokio::test]
async fn bytes_that_are_asked_for_one_by_one_come_one_by_one() {
    let (mut near, far) = opened().await;
    let sent: Vec<u8> = (0..MOST).map(|at| (at % 251) as u8).collect();
    say(&far, &[b"b", &sent[..]].concat());
    say(&far, b"e");
    let mut got = Vec::new();
    let mut byte = [0];
    while near.read(&mut byte).await.unwrap() > 0 {
        got.push(byte[0]);
    }
    assert_eq!(got, sent);
}

#[tokio::test]
async fn descriptors_that_come_with_bytes_are_not_kept() {
    use std::{io::IoSlice, mem::MaybeUninit};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};

    let (mut near, far) = opened().await;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = [theirs.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    let sent = sendmsg(&far, &[IoSlice::new(b"bbytes")], &mut control, SendFlags::NOSIGNAL);
    drop(theirs);
    if sent.is_err() {
        // A kernel that lets a socket take none (SO_PASSRIGHTS, Linux 6.16) refuses them where they are sent.
        assert_eq!(sent, Err(rustix::io::Errno::PERM));
        send(&far, b"bbytes", SendFlags::NOSIGNAL).unwrap();
    }
    let mut bytes = [0; 5];
    near.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"bytes");
    assert_eq!(io::Read::read(&mut &ours, &mut [0]).unwrap(), 0, "nobody has its other end");
}

#[test]
fn only_a_socket_of_packets_can_be_an_end() {
    let stream = std::os::unix::net::UnixStream::pair().unwrap().0;
    assert!(SocketEnd::receiver(stream.into()).is_err());
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(SocketEnd::receiver(tcp.into()).is_err());
    assert!(SocketEnd::receiver(std::fs::File::open("/dev/null").unwrap().into()).is_err());
}

#[tokio::test]
async fn an_end_in_use_is_not_given_away() {
    let (near, far) = opened().await;
    assert!(near.into_descriptor().is_none());
    drop(far);
}

#[tokio::test]
async fn a_last_word_is_said_although_the_connection_is_full() {
    let (near, far) = pair().unwrap();
    let near = near.into_descriptor().unwrap();
    far.accept().unwrap();
    let mut far = far;
    while tokio::time::timeout(std::time::Duration::from_millis(20), far.write(&[1; 8192])).await.is_ok() {}
    far.refuse(Reason::PolicyDenied);
    drop(far);
    let mut packet = vec![0; MOST + 1];
    let mut last = String::new();
    loop {
        let (count, _) = rustix::net::recv(&near, &mut packet[..], rustix::net::RecvFlags::DONTWAIT).unwrap();
        if count == 0 {
            break;
        }
        last = String::from_utf8_lossy(&packet[..count.min(32)]).into_owned();
    }
    assert_eq!(last, "cpolicy_denied");
}
