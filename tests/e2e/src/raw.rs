//! Plain sockets in pods: clients that write what they like, servers that do as a test tells them.

use std::{
    io::{self, Read},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use testkit::{KitError, Pod};

/// Connects from inside a pod. No read or write waits longer than half a minute.
///
/// # Errors
/// The connection is refused, or not made in time.
pub fn dial(from: &Pod, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = from.run(|| TcpStream::connect_timeout(&to, LIMIT)).map_err(io::Error::other)??;
    patient(&stream)?;
    Ok(stream)
}

/// How a connection ends to which nothing is said: a reset may come before its client has looked at it.
///
/// # Errors
/// It is refused or reset, or does not end in time.
pub fn end_of(from: &Pod, to: SocketAddr) -> io::Result<usize> {
    dial(from, to).and_then(|stream| byte(&stream))
}

/// Reads one byte; how many came, so 0 at the end. What is read again is what a stop of the whole process interrupts: sockets with a
/// time-out are not taken up again by themselves (signal(7)).
///
/// # Errors
/// The connection broke off, or nothing came in time.
pub fn byte(stream: &TcpStream) -> io::Result<usize> {
    Ok(usize::from(next(stream)?.is_some()))
}

fn next(mut stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    // Which reads again what was interrupted.
    match stream.read_exact(&mut byte) {
        Ok(()) => Ok(Some(byte[0])),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the head of an HTTP/1 message, to its empty line or to the end.
///
/// # Errors
/// The connection broke off, or nothing came in time.
pub fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n")
        && let Some(byte) = next(stream)?
    {
        head.push(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Whether reading ended with a reset.
#[must_use]
pub fn is_reset<T>(outcome: &io::Result<T>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// A server in a pod that gives each connection to a function, on a thread of its own. Dropping it closes its
/// port; connections go on.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts it; it listens when this returns.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start(
        pod: &Pod,
        at: SocketAddr,
        handle: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self, KitError> {
        let failed = |source| KitError::Start { what: format!("a server at {at}"), source };
        let socket = pod.run(|| TcpListener::bind(at))?.map_err(failed)?;
        let (accepting, handle) = (socket.try_clone().map_err(failed)?, Arc::new(handle));
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let handle = Arc::clone(&handle);
                // A client that broke off is the test's to judge.
                thread::spawn(move || patient(&stream).and_then(|()| handle(stream)));
            }
        });
        Ok(Self { socket, thread: Some(thread) })
    }

    /// A server that sends back what it gets, and ends when its client has.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn echo(pod: &Pod, at: SocketAddr) -> Result<Self, KitError> {
        Self::start(pod, at, |mut stream| {
            let mut reading = stream.try_clone()?;
            io::copy(&mut reading, &mut stream)?;
            stream.shutdown(Shutdown::Write)
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)
}

const LIMIT: Duration = Duration::from_secs(30);
