//! A client that keeps asking from inside a pod, and counts who answered. Every failure is counted, the last
//! one kept.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use testkit::{KitError, Pod, block_on, http::Connection};

/// The client. It asks until it is dropped.
#[derive(Debug)]
pub struct Traffic {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), KitError>>>,
}

/// Who answered how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers with status 200, by their `x-pod`.
    pub answers: BTreeMap<String, u64>,
    /// Everything else.
    pub failures: u64,
    /// The last of these.
    pub last_failure: String,
}

impl Tally {
    /// The answers of one pod.
    #[must_use]
    pub fn of(&self, pod: &str) -> u64 {
        self.answers.get(pod).copied().unwrap_or_default()
    }

    /// All answers.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.answers.values().sum()
    }

    fn note(&mut self, outcome: Result<String, String>) {
        match outcome {
            Ok(pod) => *self.answers.entry(pod).or_default() += 1,
            Err(why) => {
                self.failures += 1;
                self.last_failure = why;
            }
        }
    }
}

impl Traffic {
    /// Starts to ask `GET /` on one connection that stays open, some hundred times a second.
    ///
    /// # Errors
    /// The pod's namespace cannot be entered.
    pub fn start(from: &Pod, to: SocketAddr, host: &str) -> Result<Self, KitError> {
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), Arc::<AtomicBool>::default());
        let (its_tally, its_stop, host) = (Arc::clone(&tally), Arc::clone(&stop), host.to_owned());
        let thread = from.spawn(move || block_on(ask(to, &host, &its_tally, &its_stop)))?;
        Ok(Self { tally, stop, thread: Some(thread) })
    }

    /// The counts so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for so many more answers; what they were. Failures are of the whole time.
    ///
    /// # Errors
    /// They did not come.
    pub fn next(&self, answers: u64) -> Result<Tally, KitError> {
        let before = self.tally();
        crate::eventually("more answers", || {
            self.tally().total() >= before.total() + answers || self.tally().failures > before.failures
        })?;
        let mut now = self.tally();
        now.answers.iter_mut().for_each(|(pod, count)| *count -= before.of(pod));
        Ok(now)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it met is in the tally.
            let _ = thread.join();
        }
    }
}

async fn ask(to: SocketAddr, host: &str, tally: &Mutex<Tally>, stop: &AtomicBool) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let outcome = once(&mut connection, to, host).await;
        if outcome.is_err() {
            connection = None;
        }
        tally.lock().unwrap_or_else(PoisonError::into_inner).note(outcome);
        tokio::time::sleep(PACE).await;
    }
}

async fn once(connection: &mut Option<Connection>, to: SocketAddr, host: &str) -> Result<String, String> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(Connection::http1(to).await.map_err(|error| error.to_string())?),
    };
    let answer = connection.get(host, "/").await.map_err(|error| error.to_string())?;
    if answer.status == 200 {
        return Ok(answer.header("x-pod").to_owned());
    }
    Err(format!("{} {}", answer.status, answer.header("canopy-refused")))
}

const PACE: Duration = Duration::from_millis(2);
