//! A pipe's two ends, on one thread and on two: bytes, ends, resets, bounds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::handoff::tests::{both_ways, cell};

const SMALL: usize = 16;

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

fn accepted(ring_bytes: usize) -> (PipeEnd, PipeEnd) {
    let (near, far) = pipe(ring_bytes);
    far.accept().unwrap();
    (near, far)
}

#[tokio::test]
async fn bytes_arrive_in_order_and_a_half_close_leaves_the_other_half_open() {
    let (mut near, mut far) = accepted(SMALL);
    near.write_all(b"0123456789").await.unwrap();
    near.shutdown().await.unwrap();
    let mut there = Vec::new();
    far.read_to_end(&mut there).await.unwrap();
    assert_eq!(there, b"0123456789");
    far.write_all(b"answer").await.unwrap();
    drop(far);
    let mut back = Vec::new();
    near.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"answer");
    assert_eq!(kind(near.write(b"late").await), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_cut_fails_after_what_was_written_before_it_and_never_looks_complete() {
    let (mut near, mut far) = accepted(SMALL);
    far.write_all(b"half of it").await.unwrap();
    far.reset();
    drop(far);
    let mut bytes = Vec::new();
    let end = near.read_to_end(&mut bytes).await;
    assert_eq!(bytes, b"half of it");
    assert_eq!(kind(end), io::ErrorKind::ConnectionReset);
    assert_eq!(kind(near.write(b"more").await), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_task_that_panics_cuts_its_connection() {
    let (mut near, far) = accepted(SMALL);
    let panicked = thread::spawn(move || {
        let _held = far;
        panic!("a bug, on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(kind(near.read(&mut [0]).await), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn the_first_answer_counts_and_silence_is_a_no() {
    let (near, far) = pipe(SMALL);
    far.refuse(Reason::PolicyDenied);
    assert!(far.accept().is_err());
    drop(far);
    assert_eq!(near.answered().await, Err(Reason::PolicyDenied));
    let (near, far) = pipe(SMALL);
    let waiter = cell(move || async move { near.answered().await });
    thread::sleep(Duration::from_millis(20));
    drop(far);
    assert_eq!(waiter.join().unwrap(), Err(Reason::CellRestarted));
}

#[tokio::test]
async fn every_reason_survives_the_way_back() {
    for reason in Reason::ALL {
        let (near, far) = pipe(SMALL);
        far.refuse(*reason);
        assert_eq!(near.answered().await, Err(*reason));
    }
}

#[tokio::test]
async fn an_opener_that_is_gone_cannot_be_accepted() {
    let (near, far) = pipe(SMALL);
    drop(near);
    assert!(far.accept().is_err());
}

#[tokio::test]
async fn who_writes_to_somebody_gone_is_told_and_so_is_who_waits_for_room() {
    let (mut near, far) = accepted(SMALL);
    near.write_all(&[0; SMALL]).await.unwrap();
    let waiter = cell(move || async move { kind(near.write(b"no room").await) });
    thread::sleep(Duration::from_millis(20));
    drop(far);
    assert_eq!(waiter.join().unwrap(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_reader_that_stops_stops_the_writer_after_one_ring() {
    let (mut near, mut far) = accepted(RING_BYTES);
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let writer = cell(move || async move {
        for _ in 0..100 {
            near.write_all(&[7; 1024]).await.unwrap();
            count.fetch_add(1024, SeqCst);
        }
    });
    while written.load(SeqCst) < RING_BYTES {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(50));
    assert_eq!(written.load(SeqCst), RING_BYTES);
    let reader = cell(move || async move {
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.map(|_| all.len())
    });
    writer.join().unwrap();
    assert_eq!(reader.join().unwrap().unwrap(), 100 * 1024);
}

#[test]
fn two_threads_that_send_all_they_can_lose_nothing_and_do_not_hang() {
    for (ring, bytes) in LOADS {
        let (near, far) = accepted(ring);
        let ends = [near, far].map(|end| cell(move || both_ways(end, (bytes, 5_000), ring as u64)));
        for end in ends {
            end.join().unwrap();
        }
    }
}

/// Bytes of a ring, and bytes that are sent each way.
const LOADS: [(usize, usize); 4] = [(1, 1 << 16), (7, 1 << 16), (64, 4 << 20), (RING_BYTES, 4 << 20)];

#[test]
fn threads_that_tell_each_other_by_post_lose_nothing_and_do_not_hang() {
    let posts = [Arc::<Post>::default(), Arc::default()];
    // Many pipes at a time, so that there is something to gather.
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for (ring, bytes) in LOADS.into_iter().cycle().take(24) {
        let (mut one, mut other) = accepted(ring);
        one.told_by(&posts[1]);
        other.told_by(&posts[0]);
        near.push((one, bytes / 8));
        far.push((other, bytes / 8));
    }
    let [first, second] = posts;
    let cells = [(first, near), (second, far)].map(|(post, ends)| {
        cell(move || async move {
            let local = tokio::task::LocalSet::new();
            local.spawn_local(post::serve(post));
            let all =
                ends.into_iter().map(|(end, bytes)| local.spawn_local(both_ways(end, (bytes, 5_000), 1)));
            let all: Vec<_> = all.collect();
            local
                .run_until(async {
                    for one in all {
                        one.await.unwrap()
                    }
                })
                .await;
        })
    });
    for cell in cells {
        cell.join().unwrap();
    }
}

#[test]
fn what_a_thread_had_to_tell_is_told_when_it_ends() {
    let post = Arc::<Post>::default();
    let (mut near, mut far) = accepted(SMALL);
    near.told_by(&post);
    let reader = cell(move || async move { far.read(&mut [0; 8]).await.unwrap() });
    thread::sleep(Duration::from_millis(20));
    let writer = cell(move || async move {
        let mut serving = Box::pin(post::serve(Arc::default()));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(serving.as_mut().poll(&mut cx).is_pending());
        near.write_all(b"hi").await.unwrap();
        drop(serving);
        near
    });
    let _near = writer.join().unwrap();
    assert_eq!(reader.join().unwrap(), 2);
}

#[test]
fn a_pipe_is_freed_by_the_thread_that_made_it_whoever_lets_go_last() {
    let (near, far) = accepted(RING_BYTES);
    drop(near);
    assert_eq!(urn::held(), 1);
    urn::sweep();
    assert_eq!(urn::held(), 1, "the other end is still there");
    thread::spawn(move || drop(far)).join().unwrap();
    urn::sweep();
    assert_eq!(urn::held(), 0);
    let (near, far) = accepted(RING_BYTES);
    thread::spawn(move || drop(far)).join().unwrap();
    drop(near);
    assert_eq!(urn::held(), 0, "nobody else had it");
}

#[test]
fn an_end_drops_its_own_wakers() {
    let (near, far) = accepted(SMALL);
    let task = Arc::new(Flag);
    let waker = std::task::Waker::from(Arc::clone(&task));
    let mut near = Box::pin(near);
    let mut cx = Context::from_waker(&waker);
    assert!(near.as_mut().poll_read(&mut cx, &mut ReadBuf::new(&mut [0])).is_pending());
    drop(waker);
    assert_eq!(Arc::strong_count(&task), 2);
    drop(near);
    assert_eq!(Arc::strong_count(&task), 1);
    drop(far);
}

struct Flag;

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test]
async fn pieces_are_written_with_one_call_as_far_as_they_fit() {
    let (mut near, mut far) = accepted(SMALL);
    let pieces = [IoSlice::new(b"head "), IoSlice::new(b""), IoSlice::new(b"and a longer body")];
    assert_eq!(near.write_vectored(&pieces).await.unwrap(), SMALL);
    let mut read = [0; SMALL];
    far.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"head and a longe");
}
