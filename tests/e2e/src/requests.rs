//! Requests from inside a pod, all of which have to be answered. Whoever wants to see a refusal asks by itself.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use testkit::{Outcome, Pod, block_on, http::Connection};

/// Sends requests on one connection; all have to be answered with 200.
///
/// # Errors
/// The connection is not made or ends, or an answer is another.
pub fn ask(from: &Pod, to: SocketAddr, requests: u32) -> Outcome {
    from.run(|| {
        block_on(async {
            let mut connection = Connection::http1(to).await?;
            for _ in 0..requests {
                let answer = connection.get("any", "/").await?;
                if answer.status != 200 {
                    return Err(format!("{to}: {} {}", answer.status, answer.header("canopy-refused")).into());
                }
            }
            Ok(())
        })
    })?
}

/// Whether a request with this head, which is told to be the last, is answered with 200. From the calling thread's network namespace.
#[must_use]
pub fn is_answered(to: SocketAddr, head: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(2)) else { return false };
    let mut answer = [0; 12];
    let said = stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .and_then(|()| write!(stream, "{head}\r\nconnection: close\r\n\r\n"))
        .and_then(|()| stream.read_exact(&mut answer));
    said.is_ok() && &answer == b"HTTP/1.1 200"
}
