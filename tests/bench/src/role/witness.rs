//! `role:witness SPEC`: asks for one route at fixed times, and notes when an answer first said which change.
//!
//! What it does is the same whether anything changes or not, so that its own requests cost a proxy the same in both. It never takes a
//! change for seen before the answer that shows it is whole.

use std::{
    ffi::OsString,
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroU64,
    thread,
    time::Duration,
};

use rustix::thread::set_current_timer_slack;
use serde::{Deserialize, Serialize};

use super::asker::{Answer, Asker};
use crate::{
    clock::{self, MILLISECOND, SECOND},
    error::BenchError,
};

/// Whom to ask, and for how long.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WitnessSpec {
    pub cpu: usize,
    pub target: SocketAddr,
    /// Of the route.
    pub number: usize,
    pub per_second: u64,
    pub lasts_ms: u64,
}

/// What it saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Witnessed {
    /// Numbers of changes, each greater than the one before, and when an answer first said so.
    pub seen: Vec<(u64, u64)>,
    pub asked: u64,
    /// Those that were not answered with 200.
    pub wrong: u64,
    /// What the first of them was.
    pub first_wrong: Option<String>,
}

pub(super) fn witness(arguments: &[OsString]) -> Result<(), BenchError> {
    let spec: WitnessSpec = super::parse(arguments)?;
    super::pin(spec.cpu)?;
    set_current_timer_slack(NonZeroU64::new(1)).map_err(|e| BenchError::os("set timer slack", e))?;
    let text = serde_json::to_string(&watch(&spec))?;
    writeln!(io::stdout(), "{text}").map_err(|e| BenchError::io("write what was seen", e))
}

fn watch(spec: &WitnessSpec) -> Witnessed {
    let (mut witnessed, mut asker) = (Witnessed::default(), Asker::new(spec.target));
    let begun = clock::now();
    let (end, interval) = (begun + spec.lasts_ms * MILLISECOND, SECOND / spec.per_second);
    let mut due = begun;
    while due < end && clock::now() < end {
        // One that is late is made up for: as many are asked in quiet as in unrest.
        thread::sleep(Duration::from_nanos(due.saturating_sub(clock::now())));
        let answer = asker.ask(spec.number);
        witnessed.note(answer, clock::now());
        due += interval;
    }
    witnessed
}

impl Witnessed {
    fn note(&mut self, answer: io::Result<Answer>, at: u64) {
        self.asked += 1;
        let problem = match answer {
            Ok(Answer { status: OK, mark, .. }) => {
                let is_new = |mark: &u64| self.seen.last().is_none_or(|(last, _)| last < mark);
                self.seen.extend(mark.filter(is_new).map(|mark| (mark, at)));
                return;
            }
            Ok(answer) => format!("{} for a route that is there", answer.status),
            Err(error) => format!("no answer for a route that is there: {error}"),
        };
        self.wrong += 1;
        self.first_wrong.get_or_insert(problem);
    }
}

const OK: u16 = 200;

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::TcpListener,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
    };

    use super::*;

    /// Answers on kept connections with the number that it is given; with status 503 where that is 0.
    fn server(number: Arc<AtomicU64>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 1024];
            while stream.read(&mut request).is_ok_and(|count| count > 0) {
                let now = number.load(Ordering::Relaxed);
                let status = if now == 0 { 503 } else { OK };
                let head = format!("HTTP/1.1 {status} x\r\nx-change: {now:08}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
            }
        });
        address
    }

    fn spec(target: SocketAddr) -> WitnessSpec {
        WitnessSpec { cpu: 0, target, number: 0, per_second: 500, lasts_ms: 400 }
    }

    #[test]
    fn a_change_is_seen_when_an_answer_first_says_so() {
        let number = Arc::new(AtomicU64::new(7));
        let target = server(Arc::clone(&number));
        let changer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            number.store(9, Ordering::Relaxed);
            let at = clock::now();
            thread::sleep(Duration::from_millis(100));
            // What is older than what was seen is nothing new.
            number.store(8, Ordering::Relaxed);
            at
        });
        let witnessed = watch(&spec(target));
        let changed = changer.join().unwrap();
        let numbers: Vec<u64> = witnessed.seen.iter().map(|(number, _)| *number).collect();
        assert_eq!((numbers.as_slice(), witnessed.wrong), (&[7, 9][..], 0), "{witnessed:?}");
        assert!(witnessed.seen[1].1 > changed, "{changed} of {witnessed:?}");
        assert!((100..=200).contains(&witnessed.asked), "{witnessed:?}");
    }

    #[test]
    fn an_answer_that_is_not_200_is_wrong_and_shows_nothing() {
        let number = Arc::new(AtomicU64::new(0));
        let witnessed = watch(&spec(server(number)));
        assert!(witnessed.seen.is_empty() && witnessed.wrong == witnessed.asked, "{witnessed:?}");
        assert_eq!(witnessed.first_wrong.unwrap(), "503 for a route that is there");
    }
}
