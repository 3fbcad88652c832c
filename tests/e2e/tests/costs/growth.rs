//! How the daemon's CPU time grows under load, and on whose ledger. It must never judge by a clock of the test's own.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use testkit::Daemon;
use tokio::time::Instant;

use super::{CLIENTS, DRAWN, IDLE, KERNEL, OTHERS, costs};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The part of a CPU below which daemons are at rest, and when that is not waited for any longer.
const AT_REST: f64 = 0.05;
const SETTLED: Duration = Duration::from_secs(8);

/// CPU seconds at one moment.
#[derive(Debug, Clone)]
struct Books {
    at: Instant,
    tenants: BTreeMap<String, f64>,
    /// What all parts come to, and what the daemon says of its process.
    parts: f64,
    process: f64,
    /// What the kernel says of the process's threads, by their names.
    kernel: BTreeMap<String, f64>,
}

impl Books {
    pub(super) fn of(daemon: &Daemon) -> Result<Self, AnyError> {
        // What was still under way is put down by then.
        std::thread::sleep(DRAWN);
        let costs = costs(daemon)?;
        let tenants = costs["tenants"].as_array().map(Vec::as_slice).unwrap_or_default();
        let used = |tenant: &Value| {
            Some((tenant["tenant"].as_str()?.to_owned(), tenant["used"]["cpu_seconds"].as_f64()?))
        };
        let part = |what: &str| costs["cpu_seconds"][what].as_f64().unwrap_or(f64::NAN);
        Ok(Self {
            at: Instant::now(),
            tenants: tenants.iter().filter_map(used).collect(),
            parts: part("tenants") + part("system") + part("common"),
            process: part("process"),
            kernel: on_the_kernels_clock(daemon.pid())?,
        })
    }

    fn since(&self, before: &Self) -> Grown {
        Grown {
            seconds: (self.at - before.at).as_secs_f64(),
            tenants: each_since(&self.tenants, &before.tenants),
            parts: self.parts - before.parts,
            process: self.process - before.process,
            kernel: each_since(&self.kernel, &before.kernel),
        }
    }
}

fn each_since(now: &BTreeMap<String, f64>, before: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let since =
        |(name, now): (&String, &f64)| (name.clone(), now - before.get(name).copied().unwrap_or_default());
    now.iter().map(since).collect()
}

/// CPU seconds between two moments.
#[derive(Debug, Clone)]
pub(super) struct Grown {
    seconds: f64,
    tenants: BTreeMap<String, f64>,
    parts: f64,
    process: f64,
    /// By threads' names: who has what is on no ledger is seen here.
    kernel: BTreeMap<String, f64>,
}

impl Grown {
    /// What is more than in the same time without load.
    fn above(mut self, idle: &Self) -> Self {
        let share = self.seconds / idle.seconds;
        for (tenant, grown) in &mut self.tenants {
            *grown -= share * idle.of(tenant);
        }
        for (thread, grown) in &mut self.kernel {
            *grown -= share * idle.kernel.get(thread).copied().unwrap_or_default();
        }
        self.process -= share * idle.process;
        self.parts -= share * idle.parts;
        self
    }

    pub(super) fn of(&self, tenant: &str) -> f64 {
        self.tenants.get(tenant).copied().unwrap_or_else(|| panic!("no tenant {tenant}: {self:?}"))
    }

    pub(super) fn is_on(&self, tenant: &str, share: f64) {
        assert!(self.of(tenant) >= share * self.process, "{tenant} has not {share} of {self:?}");
    }

    pub(super) fn is_on_both(&self, tenants: [&str; 2], share: f64) {
        let both: f64 = tenants.iter().map(|tenant| self.of(tenant)).sum();
        assert!(both >= share * self.process, "{tenants:?} have not {share} of {self:?}");
    }

    pub(super) fn is_not_on(&self, tenant: &str) {
        assert!(
            self.of(tenant).abs() <= OTHERS * self.process,
            "{tenant} has more than its part of {self:?}"
        );
    }

    /// The parts beside the process, at one moment, and both beside what the kernel says, read a moment apart.
    pub(super) fn adds_up(&self) {
        assert!((self.parts - self.process).abs() <= KERNEL * self.process, "the parts: {self:?}");
        let kernel: f64 = self.kernel.values().sum();
        assert!((kernel - self.process).abs() <= KERNEL * kernel, "the kernel: {self:?}");
    }
}

/// How the daemon's CPU time grows while something is done over and over, above what it takes to do nothing; and how often
/// it was done.
pub(super) fn growth(
    daemon: &Daemon,
    work: impl Fn() -> Result<u64, String> + Sync,
) -> Result<(Grown, u64), AnyError> {
    let (mut grown, done) = growth_of([daemon], work)?;
    Ok((grown.pop().ok_or("a daemon")?, done))
}

pub(super) fn growth_of_both(
    daemons: [&Daemon; 2],
    work: impl Fn() -> Result<u64, String> + Sync,
) -> Result<((Grown, Grown), u64), AnyError> {
    let (mut grown, done) = growth_of(daemons, work)?;
    let (second, first) = (grown.pop().ok_or("a daemon")?, grown.pop().ok_or("a daemon")?);
    Ok(((first, second), done))
}

fn growth_of<const N: usize>(
    daemons: [&Daemon; N],
    work: impl Fn() -> Result<u64, String> + Sync,
) -> Result<(Vec<Grown>, u64), AnyError> {
    // What one test's daemon does would make that of another wait, and its threads watch over that.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let books = || daemons.iter().map(|daemon| Books::of(daemon)).collect::<Result<Vec<_>, _>>();
    let (first, before) = idle(books)?;
    let done = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(&work)).collect();
        let done = clients.into_iter().map(|client| client.join().map_err(|_| "it panicked".to_owned())?);
        done.sum::<Result<u64, String>>()
    })?;
    let after = books()?;
    let idle = before.iter().zip(&first).map(|(now, then)| now.since(then));
    let grown = after.iter().zip(&before).map(|(now, then)| now.since(then));
    Ok((grown.zip(idle).map(|(grown, idle)| grown.above(&idle)).collect(), done))
}

/// The books before and after some time without load. Daemons that have just started still have something to do: with that taken
/// for what they do at rest, load would seem to cost less than nothing.
fn idle(books: impl Fn() -> Result<Vec<Books>, AnyError>) -> Result<(Vec<Books>, Vec<Books>), AnyError> {
    let started = Instant::now();
    let mut first = books()?;
    loop {
        let now = books()?;
        let used: f64 = now.iter().zip(&first).map(|(now, then)| now.process - then.process).sum();
        let is_at_rest = used < AT_REST * (now[0].at - first[0].at).as_secs_f64();
        first = now;
        if is_at_rest || started.elapsed() > SETTLED {
            break;
        }
    }
    std::thread::sleep(IDLE);
    Ok((first, books()?))
}

/// A process's threads' CPU time as the scheduler has it, those of one name together.
pub(super) fn on_the_kernels_clock(pid: u32) -> std::io::Result<BTreeMap<String, f64>> {
    let mut seconds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between two looks.
        let of = entry?.path();
        let used = fs::read_to_string(of.join("schedstat")).unwrap_or_default();
        let nanos = used.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or_default();
        let name = fs::read_to_string(of.join("comm")).unwrap_or_default();
        *seconds.entry(name.trim_end().to_owned()).or_default() += nanos / 1e9;
    }
    Ok(seconds)
}
