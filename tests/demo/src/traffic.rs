//! A client that keeps asking `http://cart.shop` from inside the frontend's pod, and counts who answered. Every
//! failure is counted, the last one kept: nothing that goes wrong in the background goes unseen.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use testkit::{KitError, Pod, block_on, http::Connection};

use crate::{cast::CART, error::DemoError};

/// The client, until it is dropped.
#[derive(Debug)]
pub(crate) struct Traffic {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), KitError>>>,
}

/// Who answered how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Answers with status 200, by the pod that they came from.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Everything else.
    pub(crate) failures: u64,
    /// The last of these.
    pub(crate) last_failure: String,
}

impl Tally {
    /// What came since an earlier one.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let count = |name: &String| earlier.answers.get(name).copied().unwrap_or_default();
        Self {
            answers: self.answers.iter().map(|(name, n)| (name.clone(), n - count(name))).collect(),
            failures: self.failures - earlier.failures,
            last_failure: self.last_failure.clone(),
        }
    }

    /// All answers.
    pub(crate) fn total(&self) -> u64 {
        self.answers.values().sum()
    }

    /// The answers of one pod.
    pub(crate) fn of(&self, pod: &str) -> u64 {
        self.answers.get(pod).copied().unwrap_or_default()
    }

    /// The same as parts of a bar.
    pub(crate) fn parts(&self) -> Vec<(String, u64)> {
        self.answers.iter().map(|(name, count)| (name.clone(), *count)).collect()
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
    /// Starts asking, about 250 times a second, on one connection that stays open.
    pub(crate) fn start(from: &Pod) -> Result<Self, DemoError> {
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), Arc::<AtomicBool>::default());
        let (its_tally, its_stop) = (Arc::clone(&tally), Arc::clone(&stop));
        let thread = from.spawn(move || block_on(ask(&its_tally, &its_stop)))?;
        Ok(Self { tally, stop, thread: Some(thread) })
    }

    /// The counts so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

async fn ask(tally: &Mutex<Tally>, stop: &AtomicBool) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let outcome = once(&mut connection).await;
        if outcome.is_err() {
            connection = None;
        }
        tally.lock().unwrap_or_else(PoisonError::into_inner).note(outcome);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn once(connection: &mut Option<Connection>) -> Result<String, String> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::http1(CART).await.map_err(|error| error.to_string())?),
    };
    let answer = open.get("cart.shop", "/").await.map_err(|error| error.to_string())?;
    if answer.status != http::StatusCode::OK {
        return Err(format!("status {}: {}", answer.status, answer.text()));
    }
    Ok(answer.text())
}

const PAUSE: Duration = Duration::from_millis(3);
