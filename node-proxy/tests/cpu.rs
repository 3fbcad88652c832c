//! Shares and caps of CPU on a real kernel, with threads that burn in the place of cells.
//!
//! A process of its own, since all of it is moved between control groups; one test at a time. Figures are wide apart from what
//! would be without enforcement: exact ones are the benchmarks'. Where control groups cannot be had, those tests say so.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use config::{
    model::Budget,
    name::{Namespace, TenantId},
};
use node_proxy::{
    sys::clock::ThreadId,
    tenancy::{
        Ledger,
        cpu::{
            CellAccount, Enforcement, LaneAccount, Means, Pacer,
            hierarchy::{self, Hierarchy},
        },
    },
};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tokio::time::Instant;

/// Held by each test: all of them move the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last CPU that this process may run on.
fn last_cpu() -> usize {
    let set = sched_getaffinity(None).expect("a process has CPUs");
    (0..CpuSet::MAX_CPU).rfind(|cpu| set.is_set(*cpu)).expect("it may run somewhere")
}

/// Keeps the calling thread, and what it starts, on one CPU.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("the CPU is one of its own");
}

/// Runs a test on a thread that stays on one CPU, as do those that it starts.
fn on_one_cpu(test: impl FnOnce(usize) + Send + 'static) {
    let _one = alone();
    let run = thread::spawn(move || {
        let cpu = last_cpu();
        stay_on(cpu);
        test(cpu);
    });
    run.join().expect("what failed is said above");
}

/// Weights, unless this machine has none to give.
#[expect(clippy::print_stdout, reason = "what is not tried is said")]
fn weights(instance: &str) -> Option<Means> {
    hierarchy::clear(instance);
    match Hierarchy::open(instance, 102_400) {
        Ok(hierarchy) => Some(Means::Weights(hierarchy)),
        Err(error) => {
            println!("not tried: {error}");
            None
        }
    }
}

/// Scheduling policies, sched(7).
const NORMAL: u32 = 0;
const BATCH: u32 = 3;

/// A thread in the place of a cell.
struct Burner {
    account: CellAccount,
    burns: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Burner {
    /// With a budget's share and cap; it burns from now on, and turns its loop as a cell does.
    fn start(tenant: &str, share: Option<u64>, cap: Option<u64>) -> Self {
        Self::doing(tenant, (share, cap), || {
            (0..100_000_u32).for_each(|turn| assert!(std::hint::black_box(turn) < 100_000));
        })
    }

    /// The same, which does this at each turn.
    fn doing(tenant: &str, (share, cap): (Option<u64>, Option<u64>), work: fn()) -> Self {
        let account = CellAccount {
            tenant: TenantId::Namespace(Namespace::try_from(tenant).expect("a name")),
            lanes: vec![LaneAccount {
                thread: Arc::new(OnceLock::new()),
                ledger: Arc::new(Ledger::default()),
            }],
            budget: Budget { cpu_share_millis: share, cpu_cap_millis: cap, ..Budget::default() },
        };
        let (burns, ends) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (own, (while_burning, until)) = (account.clone(), (Arc::clone(&burns), Arc::clone(&ends)));
        let thread = thread::spawn(move || {
            own.lanes[0].thread.get_or_init(ThreadId::current);
            let mut pacer = Pacer::new(Arc::clone(&own.lanes[0].ledger));
            while !until.load(Relaxed) {
                if while_burning.load(Relaxed) {
                    work();
                    pacer.turn();
                } else {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        while account.lanes[0].thread.get().is_none() {
            thread::yield_now();
        }
        Self { account, burns, ends, thread: Some(thread) }
    }

    /// Its thread's scheduling policy, by number: proc_pid_stat(5), field 41; the third follows the name.
    fn policy(&self) -> Option<u32> {
        let thread = self.account.lanes[0].thread.get()?;
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(38)?.parse().ok()
    }

    fn used(&self) -> Duration {
        self.account.lanes[0].thread.get().and_then(|id| id.cpu().ok()).expect("it runs")
    }

    /// The part of a CPU that it uses during so long a time.
    fn part(&self, time: Duration) -> f64 {
        let (used, begun) = (self.used(), Instant::now());
        thread::sleep(time);
        (self.used() - used).as_secs_f64() / begun.elapsed().as_secs_f64()
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A program outside of the daemon that takes all it can get, in a session of its own; it ends by itself soon.
struct Hog(Child);

impl Hog {
    fn start(cpu: usize) -> Self {
        let mut command = Command::new("setsid");
        command.args(["timeout", "20", "taskset", "-c", &cpu.to_string(), "sh", "-c", "while :; do :; done"]);
        Self(command.stdout(Stdio::null()).spawn().expect("setsid, of util-linux"))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // `timeout` passes it on to what it has started.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

fn own_groups(instance: &str) -> Vec<PathBuf> {
    let Ok((_, base)) = Hierarchy::probe() else { return Vec::new() };
    let entries = fs::read_dir(base).expect("the group is there").flatten().map(|entry| entry.path());
    entries.filter(|path| path.to_string_lossy().contains(&format!("/canopy.{instance}."))).collect()
}

fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_guaranteed_share_is_had_beside_a_neighbour_that_burns_and_two_hogs_outside() {
    on_one_cpu(|cpu| {
        let _hogs = [Hog::start(cpu), Hog::start(cpu)];
        // The hogs stay where they were started.
        thread::sleep(Duration::from_millis(200));
        let Some(means) = weights("test-share") else { return };
        let guaranteed = Burner::start("guaranteed", Some(500), None);
        let neighbour = Burner::start("neighbour", None, None);
        let enforcement = Enforcement::with(means).unwrap();
        enforcement.govern(vec![guaranteed.account.clone(), neighbour.account.clone()]);
        thread::sleep(Duration::from_millis(1_500));
        let before = neighbour.used();
        let part = guaranteed.part(Duration::from_secs(2));
        // Equals would have a quarter each.
        assert!(part > 0.4, "{part} of a CPU of which half is guaranteed");
        let left = (neighbour.used() - before).as_secs_f64() / 2.0;
        assert!(left > 0.01, "{left} of a CPU is left to its neighbour");
    });
}

#[test]
fn a_guaranteed_share_is_had_beside_a_neighbour_that_only_maps_memory_and_two_hogs_outside() {
    /// More than the allocator of this test ever keeps (32 MiB, `mallopt(3)`): mapped, touched and unmapped at each turn.
    const MAPPED: usize = 40 << 20;
    on_one_cpu(|cpu| {
        let _hogs = [Hog::start(cpu), Hog::start(cpu)];
        thread::sleep(Duration::from_millis(200));
        let Some(means) = weights("test-maps") else { return };
        let map = || drop(std::hint::black_box(vec![1_u8; MAPPED]));
        // It maps memory, too: the address space is one, and its neighbour holds the lock of it most of the time.
        let guaranteed = Burner::doing("guaranteed", (Some(500), None), map);
        let neighbour = Burner::doing("neighbour", (None, None), map);
        let enforcement = Enforcement::with(means).unwrap();
        enforcement.govern(vec![guaranteed.account.clone(), neighbour.account.clone()]);
        thread::sleep(Duration::from_millis(1_500));
        let part = guaranteed.part(Duration::from_secs(2));
        // Equals would have a quarter each.
        assert!(part > 0.4, "{part} of a CPU of which half is guaranteed");
    });
}

#[test]
fn a_cell_that_takes_all_goes_behind_and_is_put_back_when_it_is_quiet() {
    on_one_cpu(|_| {
        let Some(means) = weights("test-bands") else { return };
        let Means::Weights(hierarchy) = &means else { return };
        let groups = hierarchy.path().to_owned();
        let hog = Burner::start("hog", None, None);
        let victim = Burner::start("victim", None, None);
        victim.burns.store(false, Relaxed);
        let enforcement = Enforcement::with(means).unwrap();
        enforcement.govern(vec![hog.account.clone(), victim.account.clone()]);
        let weight = |tenant: &str| -> Option<u64> {
            let entries = fs::read_dir(&groups).ok()?.flatten().map(|entry| entry.path());
            let group = entries.filter(|path| path.to_string_lossy().ends_with(tenant)).last()?;
            let read = |file: &str| fs::read_to_string(group.join(file)).ok();
            read("cpu.shares").or_else(|| read("cpu.weight"))?.trim().parse().ok()
        };
        wait_until("the hog goes behind", || {
            weight("-hog").zip(weight("-victim")).is_some_and(|(hog, victim)| hog * 20 < victim)
        });
        hog.burns.store(false, Relaxed);
        wait_until("the hog is put back", || weight("-hog") == weight("-victim"));
    });
}

#[test]
fn a_cell_that_has_its_part_interrupts_nobody_until_it_is_quiet_and_one_that_wants_little_may() {
    on_one_cpu(|_| {
        let Some(means) = weights("test-classes") else { return };
        let hog = Burner::start("hog", None, None);
        let victim = Burner::start("victim", None, None);
        victim.burns.store(false, Relaxed);
        let enforcement = Enforcement::with(means).unwrap();
        enforcement.govern(vec![hog.account.clone(), victim.account.clone()]);
        wait_until("the hog is in the batch class", || hog.policy() == Some(BATCH));
        assert_eq!(victim.policy(), Some(NORMAL));
        hog.burns.store(false, Relaxed);
        wait_until("the hog is in the normal class again", || hog.policy() == Some(NORMAL));
    });
}

#[test]
fn a_cap_holds_and_is_lifted_while_the_cell_runs() {
    let held = |means: Means| {
        let cell = Burner::start("capped", None, Some(100));
        let enforcement = Enforcement::with(means).unwrap();
        enforcement.govern(vec![cell.account.clone()]);
        thread::sleep(Duration::from_millis(300));
        let part = cell.part(Duration::from_secs(2));
        assert!((0.05..0.15).contains(&part), "{part} of a CPU, capped at 0.1");
        wait_until("the time held back is told", || {
            cell.account.lanes[0].ledger.throttled_nanos.load(Relaxed) > 500_000_000
        });
        let free = CellAccount { budget: Budget::default(), ..cell.account.clone() };
        enforcement.govern(vec![free]);
        thread::sleep(Duration::from_millis(200));
        let part = cell.part(Duration::from_secs(1));
        assert!(part > 0.2, "{part} of a CPU without a cap");
        // It is told once a second at the latest: by now all of the first cap.
        thread::sleep(Duration::from_millis(500));
        let told = || Duration::from_nanos(cell.account.lanes[0].ledger.throttled_nanos.load(Relaxed));
        let (before, again) = (told(), Instant::now());
        enforcement.govern(vec![cell.account.clone()]);
        wait_until("the time held back by the next cap is told", || told() > before);
        let more = told() - before;
        assert!(
            more <= again.elapsed() + Duration::from_millis(100),
            "{more:?} more in {:?}",
            again.elapsed()
        );
    };
    on_one_cpu(move |_| {
        held(Means::Governor);
        weights("test-cap").into_iter().for_each(held);
    });
}

#[test]
fn a_cell_over_its_share_pauses_for_its_neighbour_where_nothing_else_can_be_had() {
    on_one_cpu(|_| {
        let (hog, neighbour) =
            (Burner::start("hog", Some(100), None), Burner::start("neighbour", Some(700), None));
        let enforcement = Enforcement::with(Means::Governor).unwrap();
        enforcement.govern(vec![hog.account.clone(), neighbour.account.clone()]);
        thread::sleep(Duration::from_millis(500));
        let before = hog.used();
        let part = neighbour.part(Duration::from_secs(2));
        let taken = (hog.used() - before).as_secs_f64() / 2.0;
        // Equals would have the same; as they are it is 7 to 1.
        assert!(part > 2.0 * taken, "{part} of a CPU, and {taken} is its neighbour's");
    });
}

#[test]
fn groups_are_gone_with_the_enforcement_and_the_process_is_where_it_was() {
    let _one = alone();
    let place = || fs::read_to_string("/proc/self/cgroup").unwrap();
    let before = place();
    let Some(means) = weights("test-groups") else { return };
    let cell = Burner::start("cell", None, None);
    let enforcement = Enforcement::with(means).unwrap();
    enforcement.govern(vec![cell.account.clone()]);
    assert_ne!(place(), before);
    drop(enforcement);
    assert_eq!(place(), before);
    assert_eq!(own_groups("test-groups"), Vec::<PathBuf>::new());
}
