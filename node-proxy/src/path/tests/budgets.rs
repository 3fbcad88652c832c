//! Connections beyond their tenant's budget: reset before anything is read of them, with a reason; and bytes beyond it, which wait.

use config::model::Budget;
use ebpf_redirect::Gate;

use super::{policy::healthz, *};
use crate::tenancy::{Row, memory::Pressure};

/// Puts a budget in place, as a live edit does.
fn keep_to(world: &World, budget: Budget) {
    world.budget.set(budget);
    world.limit(Egress::Any);
}

#[test]
fn a_connection_beyond_the_tenants_is_reset_and_one_that_ends_leaves_its_place() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        keep_to(&world, Budget { connections: Some(1), ..Budget::default() });
        let first = world.dial(server.vip).await;
        let (held, _) = server.listener.accept().await.unwrap();
        assert!(reads_reset(&mut world.dial(server.vip).await).await);
        assert_eq!(world.cell.ledger.refusals(Reason::ConnectionLimit), 1);
        drop((first, held));
        world.emptied(1).await;
        let _second = world.dial(server.vip).await;
        server.listener.accept().await.unwrap();
    });
}

#[test]
fn a_connection_beyond_its_workloads_is_reset_for_a_reason_of_its_own() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        keep_to(&world, Budget { connections_per_workload: Some(1), ..Budget::default() });
        let _first = world.dial(server.vip).await;
        let _held = server.listener.accept().await.unwrap();
        assert!(reads_reset(&mut world.dial(server.vip).await).await);
        assert_eq!(world.cell.ledger.refusals(Reason::WorkloadConnectionLimit), 1);
        assert!(world.cell.seat(world.tree.id + 1).is_ok(), "another workload has its own");
    });
}

#[test]
fn a_gate_is_shut_exactly_while_the_cell_would_refuse() {
    on_a_cell(async {
        let (world, redirect) = (World::new(), ebpf_redirect::fake::FakeRedirect::default());
        let (cell, tree) = (&world.cell, world.tree.id);
        let row = Arc::new(Row::new(cell.tenant.clone(), world.tree.workload.pod.clone()));
        for door in [&cell.ledger.door, &row.door] {
            door.hang(ebpf_redirect::Redirect::gate(&redirect));
        }
        cell.payers.open(tree, Arc::clone(&row));
        let shut = || [&cell.ledger.door, &row.door].map(|door| door.gate().is_some_and(Gate::is_shut));
        keep_to(
            &world,
            Budget { connections: Some(2), connections_per_workload: Some(1), ..Budget::default() },
        );
        let own = cell.seat(tree).unwrap();
        assert_eq!((shut(), cell.seat(tree).is_err()), ([false, true], true));
        let other = cell.seat(tree + 1).unwrap();
        assert_eq!((shut(), cell.seat(tree + 2).is_err()), ([true, true], true));
        drop(own);
        assert_eq!(shut(), [false, false]);
        keep_to(&world, Budget { connections: Some(1), ..Budget::default() });
        assert_eq!(shut(), [true, false], "there is one already");
        let more = Budget { connections: Some(5), connections_per_workload: Some(1), ..Budget::default() };
        keep_to(&world, more);
        let own = cell.seat(tree).unwrap();
        assert_eq!(shut(), [false, true]);
        cell.change_share(2);
        assert_eq!(shut(), [true, true], "the share is a bound, too");
        keep_to(&world, Budget::default());
        assert_eq!(shut(), [true, false]);
        drop((own, other));
        assert_eq!(shut(), [false, false]);
    });
}

#[test]
fn connections_beyond_the_rate_are_reset_until_a_second_has_brought_more() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        keep_to(&world, Budget { connections_per_second: Some(2), ..Budget::default() });
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push((world.dial(server.vip).await, server.listener.accept().await.unwrap()));
        }
        assert!(reads_reset(&mut world.dial(server.vip).await).await);
        assert_eq!(world.cell.ledger.refusals(Reason::ConnectionRate), 1);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let _next = world.dial(server.vip).await;
        server.listener.accept().await.unwrap();
    });
}

#[test]
fn what_is_there_stays_when_the_budget_shrinks() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        let second = world.dial(server.vip).await;
        server.listener.accept().await.unwrap();
        keep_to(&world, Budget { connections: Some(1), ..Budget::default() });
        flows(&mut client, &mut stream).await;
        drop(second);
        world.emptied_but(1).await;
        assert!(reads_reset(&mut world.dial(server.vip).await).await);
        flows(&mut client, &mut stream).await;
        keep_to(&world, Budget::default());
        let _third = world.dial(server.vip).await;
        server.listener.accept().await.unwrap();
    });
}

#[test]
fn bulk_goes_no_faster_than_the_tenants_bytes_a_second_and_none_is_lost() {
    const BYTES: usize = 12_000_000;
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        keep_to(&world, Budget { bytes_per_second_out: Some(10_000_000), ..Budget::default() });
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        let begun = tokio::time::Instant::now();
        let send = async {
            client.write_all(&vec![7; BYTES]).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let ((), got) = tokio::join!(send, read_all(&mut stream));
        let took = begun.elapsed();
        assert_eq!(got.len(), BYTES);
        // A tenth of a second's worth goes at once, and the last piece need not wait.
        assert!(took > Duration::from_millis(1000), "{took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
        let begun = tokio::time::Instant::now();
        let answer = async {
            stream.write_all(&vec![7; BYTES]).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let ((), got) = tokio::join!(answer, read_all(&mut client));
        assert_eq!(got.len(), BYTES);
        assert!(begun.elapsed() < took, "the other way has no bound: {:?}", begun.elapsed());
    });
}

#[test]
fn what_the_node_asks_of_a_pod_is_let_in_where_the_budget_has_no_room_and_nothing_else_is() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Http1).await;
        let other = world.server(AppProtocol::Http1).await;
        world.probed(server.address.port(), vec![healthz()]);
        keep_to(&world, Budget { connections: Some(1), requests_per_second: Some(1), ..Budget::default() });
        let _first = world.call(server.address).await;
        while world.cell.share.held() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(reads_reset(&mut world.call(other.address).await).await, "it is no probe's port");
        let mut kubelet = world.call(server.address).await;
        let app = tokio::task::spawn_local(async move {
            let (mut app, _) = server.listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            while app.read(&mut asked).await.is_ok_and(|read| read > 0) {
                app.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        });
        for _ in 0..3 {
            kubelet.write_all(b"GET /healthz HTTP/1.1\r\nhost: app\r\n\r\n").await.unwrap();
            let mut answer = [0; 15];
            kubelet.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            let mut rest = [0; 4096];
            drop(timeout(Duration::from_millis(100), kubelet.read(&mut rest)).await);
        }
        assert_eq!(world.cell.ledger.refusals(Reason::ConnectionLimit), 1);
        app.abort();
    });
}

#[test]
fn under_pressure_nothing_new_is_let_in_and_above_the_hard_limit_the_newest_end_first() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            let client = world.dial(server.vip).await;
            held.push((client, server.listener.accept().await.unwrap().0));
        }
        for (client, stream) in &mut held {
            flows(client, stream).await;
        }
        world.cell.press(Pressure::Soft);
        assert!(reads_reset(&mut world.dial(server.vip).await).await);
        assert_eq!(world.cell.ledger.refusals(Reason::MemoryLimit), 1);
        for left in [3, 2] {
            world.cell.press(Pressure::Hard);
            world.emptied_but(left).await;
        }
        assert_eq!(world.cell.ledger.refusals(Reason::MemoryShed), 2);
        assert_eq!(world.cell.ledger.above_memory.load(Relaxed), 2);
        for (client, stream) in &mut held[..2] {
            flows(client, stream).await;
        }
        assert!(reads_reset(&mut held[3].0).await && reads_reset(&mut held[2].0).await);
        world.cell.press(Pressure::None);
        assert_eq!(world.cell.ledger.above_memory.load(Relaxed), 0);
        let _next = world.dial(server.vip).await;
        server.listener.accept().await.unwrap();
    });
}

#[test]
fn what_the_cell_holds_is_weighed_by_its_budget_without_waiting_for_the_allocators_figure() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        keep_to(&world, Budget { memory_soft_bytes: Some(32 << 20), ..Budget::default() });
        world.cell.weigh();
        drop(world.dial(server.vip).await);
        server.listener.accept().await.unwrap();
        world.cell.ledger.heap_bytes.store(40 << 20, Relaxed);
        world.cell.weigh();
        assert!(reads_reset(&mut world.dial(server.vip).await).await);
        keep_to(&world, Budget::default());
        world.cell.weigh();
        let _next = world.dial(server.vip).await;
        server.listener.accept().await.unwrap();
    });
}

#[test]
fn a_rate_that_is_lifted_lets_what_waits_go_at_once() {
    const BYTES: usize = 1_000_000;
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        keep_to(&world, Budget { bytes_per_second_out: Some(1000), ..Budget::default() });
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        let begun = tokio::time::Instant::now();
        let lift = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            keep_to(&world, Budget::default());
        };
        let send = async {
            client.write_all(&vec![7; BYTES]).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let ((), (), got) = tokio::join!(lift, send, read_all(&mut stream));
        assert_eq!(got.len(), BYTES);
        let took = begun.elapsed();
        assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&took), "{took:?}");
    });
}
