//! A tenant that sends everything at once that costs a proxy memory: its budget holds, the daemon stays, its neighbour does not notice.
//!
//! All of it is HTTP that a client may send, frame by frame; bounded in connections and in time.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use e2e::{HTTP, Listener, Origin, Stage, Traffic, eventually, forget_peak, peak, port};
use testkit::{Outcome, Pod, http};

/// What one connection is for; it ends with an error when the other side has had enough.
type Flood = fn(&mut TcpStream) -> io::Result<()>;

const FLOODS: [(&str, u16, Flood); 5] = [
    ("streams whose answers nobody takes", MANY, many_streams),
    ("heads as large as they may be", MANY, large_heads),
    ("a head without an end", MANY, endless_head),
    ("streams that are reset at once", MANY, rapid_resets),
    ("answers that nobody reads", ENDLESS, slow_reader),
];

/// Ports of the same pod: of HTTP/2 that is never read, and of HTTP/1.1 whose answers do not end.
const MANY: u16 = 82;
const ENDLESS: u16 = 83;
/// At a time, of each kind.
const CONNECTIONS: usize = 24;
const STREAMS: u32 = 100;

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET http://web/` in HPACK, mostly from its static table (RFC 7541, appendix A).
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 3, b'w', b'e', b'b'];

#[test]
fn a_tenant_that_floods_with_all_that_costs_memory_is_held_to_its_budget_and_its_neighbour_is_served()
-> Outcome {
    let stage = Stage::new()?;
    let ports = [HTTP, port("http2", MANY), port("http-endless", ENDLESS)];
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &ports)?);
    let (other, ledger) = (stage.pod("bank", "other", &[])?, stage.pod("bank", "ledger", &[HTTP])?);
    let to_web = stage.service(("shop", "web"), 10, &ports, &[&web])?;
    let to_ledger = stage.service(("bank", "ledger"), 11, &[HTTP], &[&ledger])?.at(80);
    let (_web, _ledger) = (Origin::start(&web, 80)?, Origin::start(&ledger, 80)?);
    // It takes connections, and nothing of what comes on them: all of it stays with whoever sends.
    let _deaf = Listener::start(&web, web.at(MANY), |stream| {
        thread::sleep(Duration::from_secs(60));
        drop(stream);
        Ok(())
    })?;
    let _endless = Listener::start(&web, web.at(ENDLESS), |mut stream| {
        e2e::head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[b'x'; 65_536])?;
        }
    })?;
    stage.manifests.write("tenant.yaml", BOUNDED)?;
    let daemon = stage.daemon()?;
    let victim = Traffic::start(&other, to_ledger, "ledger")?;
    victim.next(50)?;
    let refused = |reason: &str| {
        let reason = format!("reason=\"{reason}\"");
        daemon.metric("canopy_refused_total", &["tenant=\"bounded\"", &reason]).unwrap_or_default()
    };
    let before = forget_peak(&daemon)?;

    let flood = Flooding::start(&client, |port| to_web.at(port))?;
    eventually("the budget bites", || refused("memory_limit") + refused("memory_shed") >= 1.0)?;
    for _ in 0..5 {
        let meanwhile = victim.next(50)?;
        assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");
        thread::sleep(Duration::from_millis(500));
    }
    let ends = flood.end();
    let grown = peak(&daemon)?.saturating_sub(before);
    assert!(grown < MOST, "{grown} bytes more than before, of a tenant that may have {HARD}");
    assert!(ends > 0, "no connection was ended: the floods were none");

    eventually("the tenant is served again", || {
        http::get(&client, to_web.at(80), "web", "/").is_ok_and(|answer| answer.status == 200)
    })?;
    assert_eq!(daemon.metric("canopy_forest_panics_total", &[])?, 0.0);
    let meanwhile = victim.next(50)?;
    assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");
    Ok(())
}

const BOUNDED: &str = "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: bounded}\n\
                       spec: {namespaces: [shop], budget: {memory: {soft: 4Mi, hard: 6Mi}}}\n";
const HARD: u64 = 6 << 20;
/// Of the whole daemon, with what its allocator keeps and what comes between two looks at it: 18 to 40 MiB when this was written, and
/// 136 at least without a budget.
const MOST: u64 = 96 << 20;

/// All kinds of floods, until they are told to end.
struct Flooding {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Result<usize, testkit::KitError>>>,
}

impl Flooding {
    fn start(from: &Pod, at: impl Fn(u16) -> SocketAddr) -> Result<Self, testkit::KitError> {
        let over = Arc::<AtomicBool>::default();
        let mut threads = Vec::new();
        for (_, port, flood) in FLOODS {
            for _ in 0..CONNECTIONS {
                let (to, its) = (at(port), Arc::clone(&over));
                threads.push(from.spawn(move || again_and_again(to, flood, &its))?);
            }
        }
        Ok(Self { over, threads })
    }

    /// How many of its connections were ended by the other side.
    fn end(self) -> usize {
        self.over.store(true, Relaxed);
        self.threads.into_iter().filter_map(|thread| thread.join().ok()?.ok()).sum()
    }
}

fn again_and_again(to: SocketAddr, flood: Flood, over: &AtomicBool) -> usize {
    let mut ends = 0;
    while !over.load(Relaxed) {
        // A connection that is not let in is one that ended.
        let outcome = connect(to).and_then(|mut stream| {
            flood(&mut stream)?;
            hold(stream, over)
        });
        ends += usize::from(outcome.is_err());
        // Bounded, also where each is refused at once.
        thread::sleep(Duration::from_millis(20));
    }
    ends
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(stream)
}

const PATIENCE: Duration = Duration::from_secs(2);

/// Keeps what was begun until the other side ends it.
fn hold(mut stream: TcpStream, over: &AtomicBool) -> io::Result<()> {
    while !over.load(Relaxed) {
        match stream.read(&mut [0; 1]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            // Slowly enough to be one that does not read.
            Ok(_) => thread::sleep(Duration::from_millis(50)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface, and a window of nothing for every stream (SETTINGS_INITIAL_WINDOW_SIZE, RFC 9113 section 6.5.2).
fn hello(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))
}

fn ids() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

fn many_streams(stream: &mut TcpStream) -> io::Result<()> {
    hello(stream)?;
    for id in ids().take(STREAMS as usize) {
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, id, GET))?;
    }
    Ok(())
}

/// Requests whose bodies never come, with a field of twelve thousand bytes each.
fn large_heads(stream: &mut TcpStream) -> io::Result<()> {
    hello(stream)?;
    let mut head = GET.to_vec();
    // A literal that is not indexed; its length in HPACK's integers (RFC 7541, section 5.1): 127 and 11,873 more.
    head.extend(b"\x00\x06x-much\x7f\xe1\x5c");
    head.extend([b'x'; 12_000]);
    for id in ids().take(STREAMS as usize) {
        stream.write_all(&frame(HEADERS, END_HEADERS, id, &head))?;
    }
    Ok(())
}

fn endless_head(stream: &mut TcpStream) -> io::Result<()> {
    hello(stream)?;
    stream.write_all(&frame(HEADERS, 0, 1, GET))?;
    for _ in 0..1_000 {
        stream.write_all(&frame(CONTINUATION, 0, 1, &[0; 16_000]))?;
    }
    Ok(())
}

fn rapid_resets(stream: &mut TcpStream) -> io::Result<()> {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    hello(stream)?;
    for id in ids().take(10_000) {
        stream.write_all(&frame(HEADERS, END_HEADERS, id, GET))?;
        stream.write_all(&frame(RESET, 0, id, &CANCEL))?;
    }
    Ok(())
}

fn slow_reader(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
}
