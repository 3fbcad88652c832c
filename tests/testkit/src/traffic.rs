//! A client that keeps asking from inside a pod, and counts who answered. Every failure is counted, the last
//! one kept: nothing that goes wrong in the background goes unseen.

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

use crate::{KitError, Pod, block_on, eventually, http::Connection};

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
    /// What came since an earlier one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |(pod, count): (&String, &u64)| (pod.clone(), count - earlier.of(pod));
        Self {
            answers: self.answers.iter().map(since).collect(),
            failures: self.failures - earlier.failures,
            last_failure: self.last_failure.clone(),
        }
    }

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

    /// The answers of each pod.
    #[must_use]
    pub fn parts(&self) -> Vec<(String, u64)> {
        self.answers.iter().map(|(pod, count)| (pod.clone(), *count)).collect()
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

/// Where requests can be made from: a pod of a test's own, or of a cluster.
pub trait Place {
    /// Runs `act` inside, on a thread that outlives this call.
    ///
    /// # Errors
    /// It cannot be entered.
    fn spawn<T, F>(&self, act: F) -> Result<JoinHandle<Result<T, KitError>>, KitError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static;
}

impl Place for Pod {
    fn spawn<T, F>(&self, act: F) -> Result<JoinHandle<Result<T, KitError>>, KitError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.netns().spawn(act)
    }
}

impl Traffic {
    /// Starts to ask `GET /` on one connection that stays open, some hundred times a second.
    ///
    /// # Errors
    /// The pod's namespace cannot be entered.
    pub fn start(from: &impl Place, to: SocketAddr, host: &str) -> Result<Self, KitError> {
        Self::paced(from, (to, host), PACE)
    }

    /// As [`Traffic::start`], with so long a pause between an answer and the next request.
    ///
    /// # Errors
    /// The pod's namespace cannot be entered.
    pub fn paced(
        from: &impl Place,
        (to, host): (SocketAddr, &str),
        pace: Duration,
    ) -> Result<Self, KitError> {
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), Arc::<AtomicBool>::default());
        let (its_tally, its_stop, host) = (Arc::clone(&tally), Arc::clone(&stop), host.to_owned());
        let thread = from.spawn(move || {
            block_on(async {
                let mut connection = None;
                while !its_stop.load(Ordering::Relaxed) {
                    let outcome = once(&mut connection, to, &host).await;
                    if outcome.is_err() {
                        connection = None;
                    }
                    its_tally.lock().unwrap_or_else(PoisonError::into_inner).note(outcome);
                    tokio::time::sleep(pace).await;
                }
            });
        })?;
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
        eventually("more answers", || {
            self.tally().total() >= before.total() + answers || self.tally().failures > before.failures
        })?;
        let now = self.tally();
        let failures = now.failures;
        Ok(Tally { failures, ..now.since(&before) })
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

async fn once(kept: &mut Option<Connection>, to: SocketAddr, host: &str) -> Result<String, String> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::http1(to).await.map_err(|error| error.to_string())?),
    };
    let answer = connection.get(host, "/").await.map_err(|error| error.to_string())?;
    // A server that keeps none says so.
    if answer.header("connection").eq_ignore_ascii_case("close") {
        *kept = None;
    }
    if answer.status == http::StatusCode::OK {
        return Ok(answer.header("x-pod").to_owned());
    }
    Err(format!("{} {}: {}", answer.status, answer.header("canopy-refused"), answer.text()))
}

const PACE: Duration = Duration::from_millis(2);
