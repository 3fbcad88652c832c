//! Memory of one cell: an arena of the allocator that its thread allocates from, and how much of it is live.
//!
//! Arenas are pooled and never destroyed: memory of a cell that ended may still be held by others. Reading their
//! numbers takes [`refresh`] first, which holds a lock of the allocator: one thread does it, about once a second, and no
//! cell ever waits for it.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tikv_jemalloc_ctl::{
    Error, epoch, raw, stats,
    thread::{ThreadLocal, allocatedp, deallocatedp},
};

/// The allocator's options, read before `main`: threads that only allocate little share one arena; thread caches that
/// have room for few blocks of a TLS record's size, of which bulk takes and frees four for each that passes (a thread keeps at most about 2 MiB so: [`Arena::cached`]); freed
/// memory goes back to the kernel within a second, by one thread in the background, since an idle arena does not do it by itself.
#[expect(unsafe_code, reason = "the allocator finds its options by this name")]
// SAFETY: jemalloc declares this symbol weak for the program to define, as a pointer to a C string.
#[unsafe(export_name = "malloc_conf")]
pub static OPTIONS: Option<&'static std::ffi::c_char> = Some({
    const TEXT: &std::ffi::CStr =
        c"narenas:1,tcache_max:32768,tcache_nslots_large:8,background_thread:true,max_background_threads:1,\
        dirty_decay_ms:1000,muzzy_decay_ms:0";
    // SAFETY: the string is static; its first character is followed by the others, which is what jemalloc reads.
    unsafe { &*TEXT.as_ptr() }
});

/// An arena. Dropping it returns it to the pool.
#[derive(Debug)]
pub struct Arena {
    index: u32,
    /// What is still live in it from an earlier owner: at most what was live when this one came, and never more than
    /// the least that was seen since.
    inherited: AtomicU64,
}

impl Arena {
    /// One that nobody uses: from the pool, or new (40 µs).
    pub fn take() -> io::Result<Self> {
        // The one that was given back first: its last owner has had the most time to free what it held.
        if let Some(index) = pool().pop_front() {
            return Ok(Self { index, inherited: AtomicU64::new(live(index).unwrap_or_default()) });
        }
        Self::new()
    }

    fn new() -> io::Result<Self> {
        let index = create().map_err(to_io)?;
        Ok(Self { index, inherited: AtomicU64::new(0) })
    }

    /// Makes the calling thread allocate from it from now on.
    #[expect(unsafe_code, reason = "the allocator's controls are untyped")]
    pub fn bind(&self) -> io::Result<()> {
        // SAFETY: `thread.arena` is an `unsigned`, the index of an arena that exists.
        unsafe { raw::write(b"thread.arena\0", self.index) }.map_err(to_io)
    }

    /// Live bytes as of the last [`refresh`]: allocated and not freed, what thread caches hold not counted.
    pub fn live(&self) -> u64 {
        let live = live(self.index).unwrap_or_default();
        live.saturating_sub(self.inherited.fetch_min(live, Relaxed).min(live))
    }
}

impl Arena {
    /// Bytes allocated from it: live, of an earlier owner too, or in thread caches; as of the last [`refresh`].
    pub fn allocated(&self) -> u64 {
        allocated(self.index).unwrap_or_default()
    }

    /// Bytes that thread caches hold of it, freed and ready to be allocated again; as of the last [`refresh`].
    pub fn cached(&self) -> u64 {
        statistic(self.index, CACHED).unwrap_or_default()
    }

    /// Bytes of pages that it has: live, cached, or free and not given back. An upper bound of what is resident; as of the
    /// last [`refresh`].
    pub fn resident(&self) -> u64 {
        statistic(self.index, RESIDENT).unwrap_or_default()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        pool().push_back(self.index);
    }
}

/// An option for the allocator's environment, with which it starts no thread of its own until [`start_thread`].
pub const NO_THREAD: &str = "background_thread:false";

/// Starts the allocator's own thread, which gives freed memory back; it has the capabilities that the caller has now.
pub fn start_thread() -> io::Result<()> {
    tikv_jemalloc_ctl::background_thread::write(true).map_err(to_io)
}

/// Makes the allocator's numbers those of now. Costs 14 µs with one arena, 815 µs with a hundred.
pub fn refresh() -> io::Result<()> {
    epoch::advance().map(drop).map_err(to_io)
}

/// Figures of the allocator as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heap {
    /// Bytes allocated and not freed, and what thread caches hold.
    pub allocated: u64,
    /// Bytes of pages that it has.
    pub resident: u64,
}

/// What the process has, in all arenas; as of the last [`refresh`].
pub fn total() -> Heap {
    let read = |value: Result<usize, Error>| value.unwrap_or_default() as u64;
    Heap { allocated: read(stats::allocated::read()), resident: read(stats::resident::read()) }
}

/// What is in arenas that no cell has now: that of the daemon's own threads, and those that wait for a tenant. Counted, arena by
/// arena, since a difference would hide what nobody has counted. `cells` are the arenas that cells have.
pub fn unowned(cells: &[&Arena]) -> Heap {
    let arenas = tikv_jemalloc_ctl::arenas::narenas::read().unwrap_or_default();
    let owned = |index: &u32| cells.iter().any(|cell| cell.index == *index);
    let unowned = (0..arenas).filter(|index| !owned(index));
    unowned.fold(Heap::default(), |sum, index| Heap {
        allocated: sum.allocated + allocated(index).unwrap_or_default(),
        resident: sum.resident + statistic(index, RESIDENT).unwrap_or_default(),
    })
}

thread_local! {
    static OWN: Option<(ThreadLocal<u64>, ThreadLocal<u64>)> =
        allocatedp::read().ok().zip(deallocatedp::read().ok());
}

/// Bytes that the calling thread has allocated so far, less those that it has freed, whoever allocated them. Two loads.
pub fn own_net() -> i64 {
    let net = |(allocated, freed): (ThreadLocal<u64>, ThreadLocal<u64>)| {
        allocated.get().wrapping_sub(freed.get()).cast_signed()
    };
    OWN.try_with(|own| own.map_or(0, net)).unwrap_or_default()
}

#[expect(unsafe_code, reason = "the allocator's controls are untyped")]
fn create() -> Result<u32, Error> {
    // SAFETY: `arenas.create` gives an `unsigned`.
    unsafe { raw::read(b"arenas.create\0") }
}

fn live(index: u32) -> Result<u64, Error> {
    Ok(allocated(index)?.saturating_sub(statistic(index, CACHED)?))
}

fn allocated(index: u32) -> Result<u64, Error> {
    let small = statistic(index, b"stats.arenas.0.small.allocated\0")?;
    let large = statistic(index, b"stats.arenas.0.large.allocated\0")?;
    Ok(small + large)
}

const CACHED: &[u8] = b"stats.arenas.0.tcache_bytes\0";
const RESIDENT: &[u8] = b"stats.arenas.0.resident\0";

/// Asked by number: names of an arena cannot be translated before the first refresh after it was made.
#[expect(unsafe_code, reason = "the allocator's controls are untyped")]
fn statistic(index: u32, name: &[u8]) -> Result<u64, Error> {
    let mut mib = [0; 5];
    let parts = name.iter().filter(|byte| **byte == b'.').count() + 1;
    let mib = mib.get_mut(..parts).unwrap_or_default();
    raw::name_to_mib(name, mib)?;
    if let Some(arena) = mib.get_mut(2) {
        *arena = index as usize;
    }
    // SAFETY: every statistic asked for here is of type `size_t`.
    unsafe { raw::read_mib::<usize>(mib) }.map(|value| value as u64)
}

fn to_io(error: Error) -> io::Error {
    io::Error::other(error.to_string())
}

fn pool() -> std::sync::MutexGuard<'static, VecDeque<u32>> {
    static POOL: Mutex<VecDeque<u32>> = Mutex::new(VecDeque::new());
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_options_are_those_the_allocator_runs_with() {
        assert_eq!(tikv_jemalloc_ctl::opt::narenas::read().unwrap(), 1);
        assert!(tikv_jemalloc_ctl::opt::background_thread::read().unwrap());
        #[expect(unsafe_code, reason = "the allocator's controls are untyped")]
        // SAFETY: the first two are a `size_t`, the third is an `unsigned`, the last two are an `ssize_t`.
        let (threads, largest, slots, dirty, muzzy) = unsafe {
            (
                raw::read::<usize>(b"opt.max_background_threads\0"),
                raw::read::<usize>(b"opt.tcache_max\0"),
                raw::read::<u32>(b"opt.tcache_nslots_large\0"),
                raw::read::<isize>(b"opt.dirty_decay_ms\0"),
                raw::read::<isize>(b"opt.muzzy_decay_ms\0"),
            )
        };
        assert_eq!(threads.unwrap(), 1);
        assert_eq!((largest.unwrap(), slots.unwrap()), (32 << 10, 8));
        assert_eq!((dirty.unwrap(), muzzy.unwrap()), (1000, 0));
    }

    #[test]
    fn a_thread_knows_what_it_has_allocated_and_not_freed() {
        let before = own_net();
        let held = vec![7_u8; 1 << 20];
        let with = own_net();
        drop(held);
        assert!(with - before >= 1 << 20 && own_net() - before < 1 << 16, "{before} {with} {}", own_net());
    }

    #[test]
    fn what_a_bound_thread_allocates_is_counted_in_its_arena_alone() {
        const BYTES: usize = 1 << 20;
        let (mine, other) = (Arena::new().unwrap(), Arena::new().unwrap());
        refresh().unwrap();
        let before = (mine.live(), other.live());
        let held = thread::scope(|scope| {
            let work = scope.spawn(|| {
                mine.bind().unwrap();
                vec![7_u8; BYTES]
            });
            work.join().unwrap()
        });
        refresh().unwrap();
        assert!(mine.resident() >= mine.live() + mine.cached() && mine.live() > mine.cached());
        let (with, without) = (unowned(&[]), unowned(&[&mine]));
        assert!(with.allocated - without.allocated >= BYTES as u64, "{with:?} {without:?}");
        assert!(
            total().allocated.abs_diff(with.allocated) < total().allocated / 100,
            "{with:?} {:?}",
            total()
        );
        let grown = usize::try_from(mine.live() - before.0).unwrap();
        assert!((BYTES..BYTES + BYTES / 4).contains(&grown), "{grown}");
        assert_eq!(other.live(), before.1);
        drop(held);
    }
}
