//! What both kinds of connections promise, asked of both.

use std::{thread, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::*;
use crate::{
    handoff::{
        pipe::{RING_BYTES, pipe},
        tests::{both_ways, cell},
    },
    stream::told,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Makes an opener's and a receiver's end.
type Make = fn() -> (End, End);

const KINDS: [(&str, Make); 2] = [
    ("ring", || {
        let (near, far) = pipe(RING_BYTES);
        (near.into(), far.into())
    }),
    ("socket", || {
        let (near, far) = socket::pair().unwrap();
        (near.into(), far.into())
    }),
];

async fn accepted(make: Make) -> (End, End) {
    let (near, far) = make();
    far.accept().unwrap();
    near.answered().await.unwrap();
    (near, far)
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

/// Writes until there is no more room.
async fn fill(end: &mut End) -> usize {
    let mut written = 0;
    while let Ok(count) = timeout(Duration::from_millis(50), end.write(&[7; 4096])).await {
        written += count.unwrap();
    }
    written
}

#[tokio::test]
async fn bytes_arrive_in_order_and_a_half_close_leaves_the_other_half_open() {
    for (name, make) in KINDS {
        let (mut near, mut far) = accepted(make).await;
        near.write_all(b"0123456789").await.unwrap();
        near.shutdown().await.unwrap();
        let mut there = Vec::new();
        far.read_to_end(&mut there).await.unwrap();
        assert_eq!(there, b"0123456789", "{name}");
        far.write_all(b"answer").await.unwrap();
        drop(far);
        let mut back = Vec::new();
        near.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"answer", "{name}");
        assert_eq!(kind(near.write(b"late").await), io::ErrorKind::BrokenPipe, "{name}");
    }
}

#[tokio::test]
async fn a_cut_fails_after_what_was_written_before_it_and_never_looks_complete() {
    for (name, make) in KINDS {
        let (mut near, mut far) = accepted(make).await;
        far.write_all(b"half of it").await.unwrap();
        far.reset();
        drop(far);
        let mut bytes = Vec::new();
        let end = near.read_to_end(&mut bytes).await;
        assert_eq!(bytes, b"half of it", "{name}");
        assert_eq!(kind(end), io::ErrorKind::ConnectionReset, "{name}");
        assert_eq!(kind(near.write(b"more").await), io::ErrorKind::BrokenPipe, "{name}");
    }
}

#[tokio::test]
async fn a_full_connection_that_is_dropped_ends_properly_and_one_that_is_cut_does_not() {
    for (name, make) in KINDS {
        for cut in [false, true] {
            let (mut near, mut far) = accepted(make).await;
            let written = fill(&mut near).await;
            if cut {
                near.reset();
            }
            drop(near);
            let mut bytes = Vec::new();
            let end = timeout(PATIENCE, far.read_to_end(&mut bytes)).await.unwrap();
            assert_eq!((bytes.len(), end.is_err()), (written, cut), "{name}");
        }
    }
}

#[tokio::test]
async fn a_task_that_panics_cuts_its_connection() {
    for (name, make) in KINDS {
        let (mut near, far) = accepted(make).await;
        let panicked = thread::spawn(move || {
            let _held = far;
            panic!("a bug, on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(kind(near.read(&mut [0]).await), io::ErrorKind::ConnectionReset, "{name}");
    }
}

#[tokio::test]
async fn the_first_answer_counts_and_silence_is_a_no() {
    for (name, make) in KINDS {
        let (near, far) = make();
        far.refuse(Reason::PolicyDenied);
        assert!(far.accept().is_err(), "{name}");
        drop(far);
        assert_eq!(near.answered().await, Err(Reason::PolicyDenied), "{name}");
        let (near, far) = make();
        let waiter = cell(move || async move { near.answered().await });
        thread::sleep(Duration::from_millis(20));
        drop(far);
        assert_eq!(waiter.join().unwrap(), Err(Reason::CellRestarted), "{name}");
    }
}

#[tokio::test]
async fn every_reason_survives_the_way_back_before_an_answer_and_after() {
    for (name, make) in KINDS {
        for reason in Reason::ALL {
            let (near, far) = make();
            far.refuse(*reason);
            assert_eq!(near.answered().await, Err(*reason), "{name}");
            let (mut near, mut far) = accepted(make).await;
            far.write_all(b"some").await.unwrap();
            far.refuse(*reason);
            drop(far);
            // Who writes is told as well, although there is something to read first.
            let written = near.write(b"more").await.unwrap_err();
            assert_eq!(told(&written), Some(*reason), "{name}");
            let mut bytes = Vec::new();
            let end = near.read_to_end(&mut bytes).await.unwrap_err();
            assert_eq!((&bytes[..], told(&end)), (&b"some"[..], Some(*reason)), "{name}");
        }
    }
}

#[tokio::test]
async fn a_receiver_is_not_told_why_its_opener_cut_it() {
    for (name, make) in KINDS {
        let (mut near, mut far) = accepted(make).await;
        near.handle().unwrap().abort(Reason::PolicyDenied);
        let end = timeout(PATIENCE, far.read(&mut [0])).await.unwrap().unwrap_err();
        assert_eq!((end.kind(), told(&end)), (io::ErrorKind::ConnectionReset, None), "{name}");
        let own = near.read(&mut [0]).await.unwrap_err();
        assert_eq!(told(&own), Some(Reason::PolicyDenied), "{name}");
        let own = near.write(b"x").await.unwrap_err();
        assert_eq!(told(&own), Some(Reason::PolicyDenied), "{name}");
    }
}

#[tokio::test]
async fn who_waits_is_woken_when_it_is_ended_from_outside() {
    for (name, make) in KINDS {
        let (near, far) = make();
        let handle = near.handle().unwrap();
        let waiter = cell(move || async move { near.answered().await });
        thread::sleep(Duration::from_millis(20));
        handle.abort(Reason::Draining);
        assert_eq!(waiter.join().unwrap(), Err(Reason::Draining), "{name}");
        assert!(far.accept().is_err(), "{name}");
        let (mut near, mut far) = accepted(make).await;
        let handle = far.handle().unwrap();
        let reader = cell(move || async move { kind(far.read(&mut [0]).await) });
        thread::sleep(Duration::from_millis(20));
        handle.abort(Reason::CellRestarted);
        assert_eq!(reader.join().unwrap(), io::ErrorKind::ConnectionReset, "{name}");
        let end = near.read(&mut [0]).await.unwrap_err();
        assert_eq!(told(&end), Some(Reason::CellRestarted), "{name}");
    }
}

#[tokio::test]
async fn an_opener_that_is_gone_cannot_be_accepted() {
    for (name, make) in KINDS {
        let (near, far) = make();
        drop(near);
        assert!(far.accept().is_err(), "{name}");
    }
}

#[tokio::test]
async fn who_waits_for_room_is_told_that_nobody_will_make_any() {
    for (name, make) in KINDS {
        let (mut near, far) = accepted(make).await;
        fill(&mut near).await;
        let waiter = cell_of(near, |mut near| async move { kind(near.write(b"no room").await) }).await;
        drop(far);
        assert_eq!(waiter.await.unwrap(), io::ErrorKind::BrokenPipe, "{name}");
    }
}

/// A task that has begun to wait.
async fn cell_of<F>(end: End, work: impl FnOnce(End) -> F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let task = tokio::spawn(work(end));
    tokio::time::sleep(Duration::from_millis(20)).await;
    task
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer_and_loses_nothing() {
    for (name, make) in KINDS {
        let (mut near, mut far) = accepted(make).await;
        let written = fill(&mut near).await;
        assert!((RING_BYTES..=512 * 1024).contains(&written), "{name}: {written}");
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all.len())
        });
        near.write_all(&vec![7; 1 << 20]).await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), written + (1 << 20), "{name}");
    }
}

#[tokio::test]
async fn the_end_is_said_once_there_is_room_for_it() {
    for (name, make) in KINDS {
        let (mut near, mut far) = accepted(make).await;
        let written = fill(&mut near).await;
        let ends = async { near.shutdown().await };
        let reads = async {
            let mut all = Vec::new();
            tokio::time::sleep(Duration::from_millis(20)).await;
            far.read_to_end(&mut all).await.map(|_| all.len())
        };
        let (ended, read) = tokio::join!(ends, reads);
        ended.unwrap();
        assert_eq!(read.unwrap(), written, "{name}");
        assert_eq!(kind(near.write(b"more").await), io::ErrorKind::BrokenPipe, "{name}");
    }
}

#[test]
fn two_threads_that_send_all_they_can_lose_nothing_and_do_not_hang() {
    for (_, make) in KINDS {
        let (near, far) = make();
        far.accept().unwrap();
        let far = cell(move || both_ways(far, (4 << 20, 40_000), 1));
        let near = cell(move || async move {
            near.answered().await.unwrap();
            both_ways(near, (4 << 20, 40_000), 2).await;
        });
        [near, far].into_iter().for_each(|end| end.join().unwrap());
    }
}

#[tokio::test]
async fn pieces_are_written_with_one_call() {
    for (name, make) in KINDS {
        let (mut near, mut far) = accepted(make).await;
        let pieces = [IoSlice::new(b"head "), IoSlice::new(b""), IoSlice::new(b"and body")];
        assert_eq!(near.write_vectored(&pieces).await.unwrap(), 13, "{name}");
        let mut read = [0; 13];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"head and body", "{name}");
    }
}
