//! What crosses a node, as a sniffer on it sees it: every frame of every link.

use std::{
    io::{ErrorKind, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use testkit::{KitError, Node};

/// All packets that a node sees, until they are asked for.
#[derive(Debug)]
pub struct Tap {
    thread: JoinHandle<Result<Vec<Vec<u8>>, KitError>>,
    stop: Arc<AtomicBool>,
}

impl Tap {
    /// Listens from now on.
    ///
    /// # Errors
    /// There is no packet socket.
    pub fn start(node: &Node) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let everything = i32::from((ETH_P_ALL as u16).to_be());
        let socket = node
            .netns()
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(everything))))??;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut packets, mut packet, mut socket) = (Vec::new(), vec![0; 65_536], socket);
            loop {
                let is_last = stopped.load(Ordering::Relaxed);
                match socket.read(&mut packet) {
                    Ok(length) => packets.push(packet[..length].to_vec()),
                    Err(error) if is_last && error.kind() == ErrorKind::WouldBlock => return Ok(packets),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(source) => {
                        return Err(KitError::Start { what: "a packet socket".to_owned(), source });
                    }
                }
            }
        });
        Ok(Self { thread, stop })
    }

    /// What was seen.
    ///
    /// # Errors
    /// The socket failed.
    pub fn packets(self) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error + Send + Sync>> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the tap panicked")??)
    }
}

/// Whether a packet has these bytes in it.
#[must_use]
pub fn contains(packet: &[u8], part: &[u8]) -> bool {
    packet.windows(part.len()).any(|window| window == part)
}

/// How a record of TLS begins that is encrypted.
pub const TLS_RECORD: [u8; 3] = [0x17, 3, 3];
/// if_ether.h.
const ETH_P_ALL: i32 = 3;
