//! `role:appear SPEC`: makes routes appear one by one, and says how long each took until it was answered.
//!
//! Meanwhile it asks for the routes that are there, one after the other, and for those that have just come: whoever has been answered
//! once must be answered ever after. It never counts a route as there that somebody else's answer was for.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    net::SocketAddr,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::asker::{Answer, Asker};
use crate::{
    clock::{self, MILLISECOND},
    error::BenchError,
    subject::routed::Change,
};

/// What is to appear, and who answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppearSpec {
    pub cpu: usize,
    pub target: SocketAddr,
    /// Routes from the first number on that are there.
    pub standing: usize,
    /// In this order; each is the next number.
    pub changes: Vec<Change>,
    pub limit_ms: u64,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Appeared {
    /// Of each change: from moving the file to the first answer.
    pub took_ns: Vec<u64>,
    /// Requests for routes that were there.
    pub asked: u64,
    /// Those that were not answered with 200.
    pub wrong: u64,
    /// What the first of them was.
    pub first_wrong: Option<String>,
}

pub(super) fn appear(arguments: &[OsString]) -> Result<(), BenchError> {
    let spec: AppearSpec = super::parse(arguments)?;
    super::pin(spec.cpu)?;
    let text = serde_json::to_string(&watch(&spec)?)?;
    writeln!(io::stdout(), "{text}").map_err(|e| BenchError::io("write what appeared", e))
}

fn watch(spec: &AppearSpec) -> Result<Appeared, BenchError> {
    let (mut appeared, mut next) = (Appeared::default(), 0);
    // A connection of its own, since who has no route may be closed on.
    let (mut asker, mut prober) = (Asker::new(spec.target), Asker::new(spec.target));
    for (change, standing) in spec.changes.iter().zip(spec.standing..) {
        let begun = clock::now();
        fs::rename(&change.from, &change.to)
            .map_err(|e| BenchError::io(format!("move {}", change.from.display()), e))?;
        while !prober.ask(change.number).is_ok_and(|answer| answer.status == OK) {
            if clock::now() - begun > spec.limit_ms * MILLISECOND {
                return Err(BenchError::Load(format!("route {} did not appear", change.number)));
            }
            next = (next + 1) % standing;
            appeared.note(next, asker.ask(next));
            thread::sleep(PAUSE);
        }
        appeared.took_ns.push(clock::now() - begun);
        for number in [change.number; AGAIN].into_iter().chain(0..standing.min(AGAIN)) {
            appeared.note(number, asker.ask(number));
        }
    }
    Ok(appeared)
}

impl Appeared {
    fn note(&mut self, number: usize, answer: io::Result<Answer>) {
        self.asked += 1;
        let problem = match answer {
            Ok(Answer { status: OK, .. }) => return,
            Ok(Answer { status, .. }) => format!("{status} for route {number}, which is there"),
            Err(error) => format!("no answer for route {number}, which is there: {error}"),
        };
        self.wrong += 1;
        self.first_wrong.get_or_insert(problem);
    }
}

const OK: u16 = 200;
/// How often a route that has come is asked for again, and how many of the others are.
const AGAIN: usize = 20;
/// Between two questions, so that asking is not what the proxy is busy with.
const PAUSE: Duration = Duration::from_micros(500);

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener, path::PathBuf};

    use super::*;

    /// Answers what `status` says of the path that was asked for, on one connection after the other.
    fn server(mut status: impl FnMut(&str) -> u16 + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let count = stream.read(&mut request).unwrap();
                let text = String::from_utf8_lossy(&request[..count]).into_owned();
                let status = status(text.split(' ').nth(1).unwrap());
                write!(stream, "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    .unwrap();
            }
        });
        address
    }

    fn spec(directory: &std::path::Path, target: SocketAddr) -> AppearSpec {
        let change = |number: usize| {
            let from: PathBuf = directory.join(format!("ready-{number}"));
            fs::write(&from, "").unwrap();
            Change { from, to: directory.join(format!("there-{number}")), number }
        };
        AppearSpec { cpu: 0, target, standing: 3, changes: vec![change(3), change(4)], limit_ms: 10_000 }
    }

    #[test]
    fn a_route_has_appeared_when_it_is_answered_and_the_others_are_asked_for_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let (there, mut late) = (directory.path().to_owned(), 0);
        let target = server(move |path| {
            let number: usize = path.strip_prefix("/route/").unwrap().parse().unwrap();
            let is_there = number < 3 || there.join(format!("there-{number}")).exists();
            late += usize::from(number == 3);
            if is_there && (number != 3 || late > 5) { 200 } else { 404 }
        });
        let appeared = watch(&spec(directory.path(), target)).unwrap();
        assert_eq!((appeared.took_ns.len(), appeared.wrong), (2, 0), "{appeared:?}");
        assert!(appeared.asked > 2 * AGAIN as u64);
        assert!(appeared.took_ns[0] > 5 * PAUSE.as_nanos() as u64);
    }

    #[test]
    fn a_route_that_is_there_and_is_not_answered_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let mut asked = 0;
        let target = server(move |path| {
            asked += usize::from(path == "/route/00003");
            // It comes, and goes again for a moment; and one that was there is not.
            if path == "/route/00001" || (path == "/route/00003" && asked == 3) { 404 } else { 200 }
        });
        let appeared = watch(&spec(directory.path(), target)).unwrap();
        assert_eq!(appeared.wrong, 3, "{appeared:?}");
        assert!(appeared.first_wrong.unwrap().starts_with("404 for route 3"));
    }
}
