//! A tenant's bytes a second, one way: who moves bytes asks first, waits for its turn, and says how many they were.
//!
//! Turns come in the order in which they were asked for, whoever moves more: each connection that has to wait stands where the queue
//! ended when it came, by the count of bytes before it, so that another rate changes how fast the queue moves and not who is next.
//! Where nobody has to wait, nobody does: what was left unused for a tenth of a second may be moved at once. It must never hold
//! bytes, only those who would move them.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::bucket::Bucket;

/// One way's rate. Costs one load where there is none.
#[derive(Debug, Default)]
pub struct Pace {
    is_on: Cell<bool>,
    bucket: RefCell<Option<Bucket>>,
    /// Whether only a little is moved at a time.
    squeezed: Cell<bool>,
    /// Bytes moved since there is a rate.
    moved: Cell<u64>,
    waits: Cell<u64>,
}

/// One who moves bytes, and its place in the queue.
#[derive(Debug, Default)]
pub struct Brake(Option<Box<Waiting>>);

#[derive(Debug)]
struct Waiting {
    /// Its turn comes when so many bytes have been paid for.
    turn: u64,
    timer: Pin<Box<Sleep>>,
}

/// A tenth of a second's bytes may be moved at once …
const BURST: u64 = 10;
/// … but so many always, that small messages need not wait for each other.
const LEAST_BURST: u64 = 16 * 1024;
/// Turns in a second, where one connection moves all: none moves more than that at a time.
const TURNS: u64 = 50;
/// Bytes of a turn: not so few that turns cost more than bytes, nor more than one reads at a time.
const TURN: (u64, u64) = (1024, 256 * 1024);
/// Bytes of a turn of those who are to hold little.
const LITTLE: usize = 16 * 1024;
/// How soon those who wait notice another rate.
const NOTICE: Duration = Duration::from_millis(100);

impl Pace {
    /// Goes on at so many bytes a second; with `None`, at any rate.
    pub fn change(&self, rate: Option<u64>, now: Instant) {
        self.is_on.set(rate.is_some() || self.squeezed.get());
        let mut bucket = self.bucket.borrow_mut();
        match (rate, &mut *bucket) {
            (Some(rate), Some(bucket)) => bucket.change(rate, burst(rate), now),
            (Some(rate), none) => *none = Some(Bucket::new(rate, burst(rate), now)),
            (None, bucket) => *bucket = None,
        }
    }

    /// Has only a little moved at a time, or no more: whoever moves bytes holds them for a moment.
    pub fn squeeze(&self, squeezed: bool) {
        self.squeezed.set(squeezed);
        self.is_on.set(squeezed || self.bucket.borrow().is_some());
    }

    /// Whether only a little is moved at a time.
    #[inline]
    pub fn is_squeezed(&self) -> bool {
        self.squeezed.get()
    }

    /// Ready when it is this one's turn, with how many bytes it may move.
    pub fn poll(&self, cx: &mut Context<'_>, brake: &mut Brake) -> Poll<usize> {
        if !self.is_on.get() {
            brake.0 = None;
            return Poll::Ready(usize::MAX);
        }
        self.poll_turn(cx, brake)
    }

    /// Says how many bytes were moved in a turn.
    pub fn spend(&self, bytes: usize, brake: &mut Brake) {
        if !self.is_on.get() || bytes == 0 {
            return;
        }
        if let Some(bucket) = &mut *self.bucket.borrow_mut() {
            bucket.charge(bytes as u64, Instant::now());
            self.moved.set(self.moved.get() + bytes as u64);
        }
        if let Some(waiting) = &mut brake.0 {
            waiting.turn = self.moved.get();
        }
    }

    /// How often somebody had to wait since this was asked last.
    pub fn take_waits(&self) -> u64 {
        self.waits.take()
    }

    fn poll_turn(&self, cx: &mut Context<'_>, brake: &mut Brake) -> Poll<usize> {
        loop {
            let mut bucket = self.bucket.borrow_mut();
            let least = if self.squeezed.get() { LITTLE } else { usize::MAX };
            let Some(bucket) = &mut *bucket else { return Poll::Ready(least) };
            let level = bucket.level(Instant::now());
            let turn = turn_at(bucket.rate()).min(least);
            if level >= 0 {
                brake.0 = None;
                return Poll::Ready(turn);
            }
            let paid = i128::from(self.moved.get()) + level;
            let waiting = brake.0.get_or_insert_with(|| {
                self.waits.set(self.waits.get() + 1);
                Box::new(Waiting { turn: self.moved.get(), timer: Box::pin(sleep(Duration::ZERO)) })
            });
            let before = u128::try_from(i128::from(waiting.turn) - paid).unwrap_or(0);
            if before == 0 {
                return Poll::Ready(turn);
            }
            if waiting.timer.is_elapsed() || waiting.timer.deadline() <= Instant::now() {
                waiting.timer.as_mut().reset(Instant::now() + bucket.time_of(before).min(NOTICE));
            }
            ready!(waiting.timer.as_mut().poll(cx));
        }
    }
}

fn burst(rate: u64) -> u64 {
    (rate / BURST).max(LEAST_BURST)
}

fn turn_at(rate: u64) -> usize {
    usize::try_from((rate / TURNS).clamp(TURN.0, TURN.1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, rc::Rc};

    use super::*;

    const RATE: u64 = 1_000_000;

    /// Moves for so many seconds as fast as it may, in pieces of `most`; how much that was.
    async fn mover(pace: Rc<Pace>, most: usize, seconds: u64) -> usize {
        let end = Instant::now() + Duration::from_secs(seconds);
        let (mut brake, mut moved) = (Brake::default(), 0);
        while Instant::now() < end {
            let may = poll_fn(|cx| pace.poll(cx, &mut brake)).await;
            pace.spend(may.min(most), &mut brake);
            moved += may.min(most);
        }
        moved
    }

    fn at(rate: u64) -> Rc<Pace> {
        let pace = Rc::new(Pace::default());
        pace.change(Some(rate), Instant::now());
        pace
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_flow_at_the_rate_and_none_is_lost_to_waiting() {
        for rate in [10_000, RATE, 500_000_000] {
            let moved = mover(at(rate), usize::MAX, 10).await as u64;
            let most = 10 * rate + burst(rate) + 2 * TURN.1;
            assert!((9 * rate + 9 * rate / 10..=most).contains(&moved), "{moved} at {rate}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_want_all_get_the_same_and_together_the_rate() {
        let (pace, set) = (at(RATE), tokio::task::LocalSet::new());
        let movers: Vec<_> =
            (0..10).map(|_| set.spawn_local(mover(Rc::clone(&pace), usize::MAX, 10))).collect();
        let moved = set.run_until(futures_util::future::join_all(movers)).await;
        let moved: Vec<usize> = moved.into_iter().map(Result::unwrap).collect();
        let all: usize = moved.iter().sum();
        assert!((9_900_000..10_500_000).contains(&all), "{all}");
        for one in &moved {
            // The first finds what was left unused before.
            assert!((900_000..1_200_000).contains(one), "{moved:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_anew_for_every_piece_gets_no_more_than_the_others() {
        let (pace, set) = (at(RATE), tokio::task::LocalSet::new());
        let long = set.spawn_local(mover(Rc::clone(&pace), usize::MAX, 10));
        let short = {
            let pace = Rc::clone(&pace);
            set.spawn_local(async move {
                let end = Instant::now() + Duration::from_secs(10);
                let mut moved = 0;
                while Instant::now() < end {
                    // A connection for one piece: it has no past that could hold it up.
                    let mut brake = Brake::default();
                    let may = poll_fn(|cx| pace.poll(cx, &mut brake)).await;
                    pace.spend(may, &mut brake);
                    moved += may;
                }
                moved
            })
        };
        let (long, short) = set.run_until(async { (long.await.unwrap(), short.await.unwrap()) }).await;
        assert!((9_900_000..10_500_000).contains(&(long + short)), "{long} and {short}");
        assert!(long * 10 > short * 7, "{long} and {short}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_is_noticed_by_those_who_wait() {
        let pace = at(1000);
        let mut brake = Brake::default();
        pace.spend(1_000_000, &mut brake);
        let begun = Instant::now();
        let waiting = poll_fn(|cx| pace.poll(cx, &mut brake));
        let change = async {
            sleep(Duration::from_secs(1)).await;
            pace.change(Some(100_000_000), Instant::now());
        };
        let (may, ()) = tokio::join!(waiting, change);
        assert!(may > 0 && begun.elapsed() < Duration::from_millis(1200), "{:?}", begun.elapsed());
        pace.change(None, Instant::now());
        assert_eq!(poll_fn(|cx| pace.poll(cx, &mut brake)).await, usize::MAX);
        assert_eq!((pace.take_waits(), pace.take_waits()), (1, 0));
    }
}
