//! A name server that says what a test tells it to, in the node's namespace, and a daemon that asks it.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tempfile::TempDir;
use testkit::{KitError, Node};

use crate::built;

/// The running server. Dropping it ends it.
#[derive(Debug)]
pub struct Dns {
    hosts: Arc<Mutex<HashMap<String, Vec<Ipv4Addr>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Dns {
    /// Starts it at the node's loopback address; it knows nothing yet.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub fn start(node: &Node) -> Result<Self, KitError> {
        let failed = |source| KitError::Start { what: "a name server".to_owned(), source };
        let socket = node.netns().run(|| UdpSocket::bind(SERVER))?.map_err(failed)?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).map_err(failed)?;
        let folder = tempfile::tempdir().map_err(failed)?;
        let (hosts, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (known, stopped) = (Arc::clone(&hosts), Arc::clone(&stop));
        let thread = thread::spawn(move || serve(&socket, &known, &stopped));
        Ok(Self { hosts, stop, thread: Some(thread), folder })
    }

    /// A host has these addresses from now on; without any, there is no such host.
    pub fn say(&self, host: &str, addresses: &[Ipv4Addr]) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(host.to_owned(), addresses.to_vec());
    }

    /// The daemon, in a mount namespace of its own where this server is the system's.
    ///
    /// # Errors
    /// The program cannot be written.
    pub fn asked_by_daemon(&self) -> io::Result<PathBuf> {
        let (conf, program) = (self.folder.path().join("resolv.conf"), self.folder.path().join("canopy"));
        std::fs::write(&conf, format!("nameserver {}\noptions timeout:1 attempts:1\n", SERVER.ip()))?;
        let text = format!(
            "#!/bin/sh\nexec unshare --mount --propagation slave sh -c \
             'mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"' {} \"$@\"\n",
            conf.display(),
            built("canopy").display()
        );
        std::fs::write(&program, text)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        Ok(program)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

fn serve(socket: &UdpSocket, hosts: &Mutex<HashMap<String, Vec<Ipv4Addr>>>, stop: &AtomicBool) {
    let mut query = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut query) else { continue };
        let known = hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answer(&query[..length], &known) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The answer to a query of one question (RFC 1035, 4.1).
fn answer(query: &[u8], hosts: &HashMap<String, Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
    let mut labels: Vec<String> = Vec::new();
    let mut at = 12;
    while *query.get(at)? > 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..=at + length)?).into_owned());
        at += length + 1;
    }
    let question = query.get(12..at + 5)?;
    let found = hosts.get(&labels.join(".")).filter(|found| !found.is_empty());
    let is_v4 = query.get(at + 1..at + 3)? == A;
    let addresses = found.map_or(&[][..], |found| if is_v4 { found } else { &[] });
    let code = if found.is_some() { 0 } else { NO_SUCH_NAME };
    let count = u8::try_from(addresses.len()).ok()?;
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(question);
    for address in addresses {
        // The question's name, A, IN, for no time, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

const A: [u8; 2] = [0, 1];
const NO_SUCH_NAME: u8 = 3;
