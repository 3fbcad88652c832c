//! What is put down to whom, on threads as cells have them. Times are compared in orders of magnitude only: the machine may be busy.

use std::{hint, sync::atomic::Ordering::Relaxed};

use tokio::task::{LocalSet, yield_now};

use super::*;
use crate::{
    telemetry::Reason,
    tenancy::{ConnectionGuard, Ledger, row::tests::row},
};

fn payer(name: &str) -> Payer {
    Payer::new(Arc::new(row(name)))
}

fn burn(time: Duration) {
    let end = clock::own_cpu() + time;
    while clock::own_cpu() < end {
        hint::spin_loop();
    }
}

/// Runs on a thread of its own, as a cell does.
fn on_a_thread<F: Future<Output = ()> + 'static>(work: fn() -> F) {
    let thread = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().on_thread_park(sleeps).on_thread_unpark(wakes).build().unwrap();
        LocalSet::new().block_on(&runtime, work());
    });
    thread.join().unwrap();
}

#[test]
fn time_and_memory_are_those_of_who_is_polled_and_of_nobody_in_between() {
    on_a_thread(|| async {
        let (costs, ledger) = (Costs::default(), Arc::new(Ledger::default()));
        let payers = Payers::new(&costs);
        let rows = ["cart", "web", "idle"].map(|name| Arc::new(row(name)));
        for (tree, row) in rows.iter().enumerate() {
            payers.open(tree as u64, Arc::clone(row));
        }
        let work = |tree: u64, millis: u64, bytes: usize| {
            let ledger = Arc::clone(&ledger);
            let work = async move {
                let open = ConnectionGuard::open(&ledger);
                let held = vec![1_u8; bytes];
                for _ in 0..4 {
                    burn(Duration::from_millis(millis / 4));
                    yield_now().await;
                }
                ledger.carried(1, 2);
                (held, open)
            };
            spawn_local(Charged::new(payers.of(tree), work))
        };
        let tasks = [work(0, 80, 1 << 20), work(1, 4, 1 << 16)];
        burn(Duration::from_millis(20));
        let mut held = Vec::new();
        for task in tasks {
            held.push(task.await.unwrap());
        }
        ledger.refused(Reason::NoRoute);
        payers.beat(&costs);
        let millis = rows.each_ref().map(|row| row.cpu_nanos.load(Relaxed) as f64 / 1e6);
        let total = clock::own_cpu().as_secs_f64() * 1e3;
        // Of 80, 4, 0 and, unpaid, 20 ms. Only who is more is sure: whoever else has this processor takes it from one and not from
        // another.
        assert!(millis[0] > millis[1] && millis[1] > 0.0 && millis[2] == 0.0, "{millis:?}");
        assert!(millis.iter().sum::<f64>() < total, "{millis:?} of {total}");
        let heaps = rows.each_ref().map(|row| row.heap());
        assert!((1 << 20..1 << 20 | 1 << 17).contains(&heaps[0]), "{heaps:?}");
        assert!((1 << 16..1 << 18).contains(&heaps[1]) && heaps[2] == 0, "{heaps:?}");
        let (sent, open) =
            (|row: &Row| row.bytes_sent.load(Relaxed), |row: &Row| row.connections_open.load(Relaxed));
        assert_eq!(rows.each_ref().map(|row| (sent(row), open(row))), [(2, 1), (2, 1), (0, 0)]);
        assert_eq!(rows[0].refusals(Reason::NoRoute), 0, "it was nobody's");
        drop(held);
        assert_eq!(rows.each_ref().map(|row| open(row)), [0; 3], "given back to whom it was counted for");
    });
}

#[test]
fn what_a_task_frees_at_its_end_is_given_back_and_its_own_tasks_are_its_payers() {
    on_a_thread(|| async {
        let payer = payer("cart");
        let row = || payer.row().heap_bytes.load(Relaxed);
        let (go, wait) = tokio::sync::oneshot::channel();
        let outer = async {
            let held = vec![1_u8; 1 << 20];
            let inner = spawn(async move {
                let _told = wait.await;
                note(|row| row.refused(Reason::NoRoute));
                drop(held);
            });
            yield_now().await;
            [inner]
        };
        let outer = spawn_local(Charged::new(Some(payer.clone()), outer));
        let [inner] = outer.await.unwrap();
        assert!(row() > 1 << 20, "{}", row());
        go.send(()).unwrap();
        inner.await.unwrap();
        assert_eq!(payer.row().refusals(Reason::NoRoute), 1);
        assert!(row().abs() < 1 << 12, "{}", row());
        assert!(current().is_none());
    });
}

#[test]
fn what_is_the_cells_is_paid_by_nobody_and_a_task_that_is_anothers_by_that_one_alone() {
    on_a_thread(|| async {
        let (tunnel, stream) = (payer("tunnel"), payer("stream"));
        let held = |payer: &Payer| payer.row().heap_bytes.load(Relaxed);
        let turn = tunnel.turn();
        let shared = unpaid(|| vec![1_u8; 1 << 16]);
        let mut kept = Vec::with_capacity(100);
        let before = own_net();
        for _ in 0..100 {
            kept.push(spawn_for(Some(stream.clone()), async { yield_now().await }));
        }
        let tasks = own_net() - before;
        drop(turn);
        assert!(held(&tunnel) < 8 << 10 && tasks > 8 << 10, "{} of {tasks}", held(&tunnel));
        for task in kept {
            task.await.unwrap();
        }
        assert!(held(&stream).abs() < 4 << 10, "{}", held(&stream));
        drop(shared);
    });
}

#[test]
fn a_turn_within_a_turn_is_not_paid_twice() {
    let (outer, inner) = (payer("cart"), payer("web"));
    let first = outer.turn();
    burn(Duration::from_millis(2));
    let second = inner.turn();
    burn(Duration::from_millis(20));
    drop(second);
    drop(first);
    burn(Duration::from_millis(2));
    let (outer, inner) = (outer.0.ticks.get(), inner.0.ticks.get());
    assert!(outer > 0 && outer < inner / 2, "{outer} {inner}");
}

#[test]
fn a_tick_stands_for_less_where_the_thread_waited_for_a_processor() {
    let span = Span { wall: 100e6, ticks: 200e6, awake: 100e6, cpu: 50e6 };
    assert_eq!(span.nanos_per_tick(), 0.5, "awake for 50 ms, and running for all of them");
    let crowded = Span { cpu: 10e6, ..span };
    assert_eq!(crowded.nanos_per_tick(), 0.1, "awake for 50 ms, and running for 10 of them");
    let system = Span { cpu: 60e6, ..span };
    assert_eq!(system.nanos_per_tick(), 0.5, "what it does asleep, in the kernel, is no task's");
    assert_eq!(Span { ticks: 0.0, ..span }.nanos_per_tick(), 0.0);
}
