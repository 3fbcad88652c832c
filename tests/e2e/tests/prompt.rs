//! How soon a denial ends what it denies, between two nodes: 100 ms after it is compiled, before any cell is told of it, at the
//! caller's own end.
//!
//! A promise of time is kept by the best of several tries: a busy machine may be late for reasons of its own.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime},
};

use e2e::{HTTP, Listener, Mesh, dial, eventually, head, port};
use testkit::{Daemon, Outcome, Pod, manifests::Port};

const RAW: Port = port("tcp-raw", 7000);
const PROMISED: Duration = Duration::from_millis(100);
const TRIES: usize = 15;

const DENIED: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {namespace: bank, name: denied}\nspec:\n  action: DENY\n  rules:\n\
    \x20 - from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]\n";

#[test]
fn a_denial_ends_streams_of_another_node_s_caller_within_100_ms_of_being_compiled() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [HTTP, RAW];
    let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &ports)?);
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    let _endless = Listener::start(&ledger, ledger.at(80), |mut stream| {
        head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        loop {
            stream.write_all(b"4\r\nmore\r\n")?;
            std::thread::sleep(Duration::from_millis(5));
        }
    })?;
    let (_here, there) = mesh.daemons()?;
    let (mut best, mut since_edit) = ([Duration::MAX; 2], Duration::MAX);
    for _ in 0..TRIES {
        let mut live = [opaque(&client, &ledger)?, download(&client, &ledger)?];
        let (before, edited) = (compiled(&there).len(), now()?);
        let ends = std::thread::scope(|scope| {
            let readers = live.each_mut().map(|stream| scope.spawn(|| reset_at(stream)));
            mesh.stage.manifests.write("denied.yaml", DENIED)?;
            let ended = readers.into_iter().map(|reader| reader.join().map_err(|_| "it panicked")?);
            ended.collect::<Fallible<Vec<_>>>()
        })?;
        eventually("the log says so", || compiled(&there).len() > before)?;
        since_edit = since_edit.min(
            ends.iter().max().map_or(Duration::MAX, |last| after(edited, *last).unwrap_or(Duration::MAX)),
        );
        let told = compiled(&there)[before];
        for (best, end) in best.iter_mut().zip(ends) {
            // Were it said after a cell is told, this could be nothing whatever the cell did.
            *best = (*best).min(after(told, end).ok_or("it ended before the denial was compiled")?);
        }
        if best.iter().all(|best| *best <= PROMISED) {
            break;
        }
        let before = compiled(&there).len();
        mesh.stage.manifests.remove("denied.yaml")?;
        eventually("it is allowed again", || opaque(&client, &ledger).is_ok())?;
        eventually("the log says that, too", || compiled(&there).len() > before)?;
    }
    println!(
        "opaque bytes and an answer ended {best:?} after it was compiled, {since_edit:?} after the edit"
    );
    assert!(best.iter().all(|best| *best <= PROMISED), "{best:?}");
    Ok(())
}

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn opaque(from: &Pod, to: &Pod) -> Fallible<TcpStream> {
    let mut stream = dial(from, to.at(7000))?;
    stream.write_all(b"life")?;
    stream.read_exact(&mut [0; 4])?;
    Ok(stream)
}

fn download(from: &Pod, to: &Pod) -> Fallible<TcpStream> {
    let mut stream = dial(from, to.at(80))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")?;
    let head = head(&mut stream)?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(stream)
}

/// When a stream is reset: the time of day, as the daemon's log tells it.
fn reset_at(stream: &mut TcpStream) -> Fallible<Duration> {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Err("it looked complete".into()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error.into()),
        }
    }
    now()
}

/// How long after one time of day the other was, be it of the next day; nothing where it was before.
fn after(earlier: Duration, later: Duration) -> Option<Duration> {
    let took = (later + DAY).checked_sub(earlier)?;
    Some(took.checked_sub(DAY).unwrap_or(took)).filter(|took| *took < DAY / 2)
}

/// The time of day.
fn now() -> Fallible<Duration> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(since - DAY * u32::try_from(since.as_secs() / DAY.as_secs())?)
}

/// When each configuration of a daemon was compiled and no cell told of it yet: the time of day in the lines of its log.
fn compiled(daemon: &Daemon) -> Vec<Duration> {
    let output = daemon.output();
    let lines = output.lines().filter(|line| line.contains("configuration compiled"));
    lines.filter_map(|line| time_of_day(line.split_once('T')?.1)).collect()
}

/// `HH:MM:SS.ffffffZ`.
fn time_of_day(text: &str) -> Option<Duration> {
    let mut parts = text.split_once('Z')?.0.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(Duration::from_secs_f64((hours * 60.0 + minutes) * 60.0 + seconds))
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
