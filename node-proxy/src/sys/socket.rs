//! Options of TCP sockets, and endings that a plain close does not give.
//!
//! Nothing here may block.

use std::{io, os::fd::AsFd, time::Duration};

use rustix::net::{connect_unspec, sockopt};

/// Silence after which a peer is asked whether it is still there. Shorter than the connection tracking of common
/// middleboxes (350 s for AWS's load balancers), so that what looks open is open.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// Pause between two such questions.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// A control of congestion that sends what the window holds.
const UNPACED: &str = "reno";

/// Sends small writes at once and notices a peer that is gone: by unacknowledged data, or by silence.
///
/// Set on a listener before it listens, accepted sockets inherit all of it, at no system call each.
pub fn prepare(socket: &impl AsFd, unacknowledged: Duration) -> io::Result<()> {
    let millis = u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_user_timeout(socket, millis)?;
    Ok(())
}

/// Paces nothing that is sent to a peer of the same namespace: there is no way that could be congested, and where the machine's
/// choice paces (BBR), bulk costs a timer for each piece. Reno does not, and is in every kernel.
///
/// Set on a listener before it listens, accepted sockets inherit it.
pub fn unpaced(socket: &impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_congestion(socket, UNPACED)?)
}

/// Ends a connection with a reset, at once, so that the other end sees a failure and not the end of the data.
///
/// Not by SO_LINGER: with a time it makes whoever closes the last descriptor wait, and a cell's process, which may hand descriptors
/// on, must not have it at all.
pub fn reset(socket: impl AsFd) {
    // To dissolve a connection is to reset it. A failure means that it is gone already.
    let _ = connect_unspec(socket);
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// What a socket does about a peer that is gone.
    fn vigilance(socket: &impl AsFd) -> (bool, bool, Duration, Duration, u32) {
        (
            sockopt::tcp_nodelay(socket).unwrap(),
            sockopt::socket_keepalive(socket).unwrap(),
            sockopt::tcp_keepidle(socket).unwrap(),
            sockopt::tcp_keepintvl(socket).unwrap(),
            sockopt::tcp_user_timeout(socket).unwrap(),
        )
    }

    #[test]
    fn a_prepared_socket_and_what_a_prepared_listener_accepts_notice_a_peer_that_is_gone() {
        let (minute, ten) = (Duration::from_secs(60), Duration::from_secs(10));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        prepare(&listener, Duration::from_secs(30)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(vigilance(&accepted), (true, true, minute, ten, 30_000));
        assert_ne!(vigilance(&client), vigilance(&accepted), "by itself none does");
        prepare(&client, Duration::from_millis(1_500)).unwrap();
        assert_eq!(vigilance(&client), (true, true, minute, ten, 1_500));
    }

    #[test]
    fn a_reset_is_seen_by_the_other_end_before_the_socket_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        (&accepted).write_all(b"half of it").unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
        reset(&accepted);
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
