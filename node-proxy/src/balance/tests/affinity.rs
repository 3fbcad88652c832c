//! Clients that stay with their endpoints, over paused time.

use super::*;

const LASTS: Duration = Duration::from_secs(60);

fn sticky(endpoints: Vec<Arc<Endpoint>>) -> Cluster {
    Cluster { affinity: Some(Affinity { key: 7, lasts: LASTS }), ..cluster_of(endpoints) }
}

fn ready(of: impl IntoIterator<Item = u8>) -> Vec<Arc<Endpoint>> {
    of.into_iter().map(|last| endpoint(last, true)).collect()
}

fn client(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 1, number))
}

fn home(balancer: &Rc<Balancer>, cluster: &Cluster, number: u8) -> u8 {
    last_byte(&balancer.pick(cluster, client(number), &[]).unwrap())
}

/// A snapshot that knows these endpoints is in place.
fn swapped(balancer: &Balancer, cluster: &Cluster) {
    balancer.retain(|address| cluster.endpoints.iter().any(|endpoint| endpoint.address == address));
}

#[tokio::test(start_paused = true)]
async fn a_client_stays_with_its_endpoint_and_clients_are_spread() {
    let (balancer, cluster) = (balancer(), sticky(ready(0..5)));
    let homes: Vec<u8> = (0..200).map(|number| home(&balancer, &cluster, number)).collect();
    for _ in 0..20 {
        let again: Vec<u8> = (0..200).map(|number| home(&balancer, &cluster, number)).collect();
        assert_eq!(again, homes);
    }
    for last in 0..5 {
        let share = homes.iter().filter(|home| **home == last).count();
        assert!((20..=60).contains(&share), "endpoint {last} has {share} of 200 clients");
    }
}

#[tokio::test(start_paused = true)]
async fn another_lane_and_the_next_start_choose_alike() {
    let cluster = sticky(ready(0..5));
    let homes = |seed: u64| -> Vec<u8> {
        let balancer = Rc::new(Balancer::with_seed(seed));
        (0..50).map(|number| home(&balancer, &cluster, number)).collect()
    };
    assert_eq!(homes(1), homes(2));
    let reversed = sticky(ready((0..5).rev()));
    let balancer = balancer();
    let again: Vec<u8> = (0..50).map(|number| home(&balancer, &reversed, number)).collect();
    assert_eq!(again, homes(1), "whichever is listed first");
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_come_move_nobody_and_those_that_go_move_their_own_clients_alone() {
    let (balancer, few) = (balancer(), sticky(ready(0..3)));
    let before: Vec<u8> = (0..100).map(|number| home(&balancer, &few, number)).collect();
    let more = sticky(ready(0..9));
    swapped(&balancer, &more);
    let after: Vec<u8> = (0..100).map(|number| home(&balancer, &more, number)).collect();
    assert_eq!(after, before);
    let without = sticky(ready(1..9));
    swapped(&balancer, &without);
    for (number, before) in (0..100).zip(before) {
        let now = home(&balancer, &without, number);
        assert!(before == 0 || now == before, "client {number} went from {before} to {now}");
    }
    let unready = sticky((0..9).map(|last| endpoint(last, last == 4)).collect());
    swapped(&balancer, &unready);
    assert!((0..100).all(|number| home(&balancer, &unready, number) == 4), "who is not ready gets nothing");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_come_for_as_long_as_it_lasts_is_forgotten() {
    let (balancer, few) = (balancer(), sticky(ready([0])));
    for number in 0..50 {
        assert_eq!(home(&balancer, &few, number), 0);
    }
    let more = sticky(ready(0..5));
    swapped(&balancer, &more);
    for _ in 0..5 {
        advance(LASTS - Duration::from_secs(1)).await;
        assert!((0..25).all(|number| home(&balancer, &more, number) == 0), "it counts from the last time");
    }
    assert!((25..50).any(|number| home(&balancer, &more, number) != 0));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_go_where_it_was_stays_with_who_it_goes_to_instead() {
    let (balancer, cluster) = (balancer(), sticky(ready(0..4)));
    let first = home(&balancer, &cluster, 1);
    let instead = balancer.pick(&cluster, client(1), &[address(first)]).unwrap();
    assert_ne!(last_byte(&instead), first, "it was tried for this request");
    assert_eq!(home(&balancer, &cluster, 1), last_byte(&instead));
    let ejected = last_byte(&instead);
    for _ in 0..20 {
        balancer.pick(&cluster, client(1), &[]).unwrap().failed();
    }
    assert!(is_ejected(&balancer, ejected));
    let third = home(&balancer, &cluster, 1);
    assert_ne!(third, ejected, "it does not answer");
    let all: Vec<SocketAddr> = (0..4).map(address).collect();
    assert!(balancer.pick(&cluster, client(1), &all).is_some(), "rather one that was tried than none");
}

#[tokio::test(start_paused = true)]
async fn no_more_clients_are_remembered_than_may_be_and_the_others_have_their_rank() {
    let (balancer, few) = (balancer(), sticky(ready([0])));
    let numbered = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    for number in 0..20_000 {
        balancer.pick(&few, numbered(number), &[]).unwrap();
    }
    let remembered = |balancer: &Balancer| balancer.homes.len();
    assert_eq!(remembered(&balancer), super::super::affinity::MOST);
    let late = numbered(19_999);
    let more = sticky(ready(0..5));
    let ranked = Rc::new(Balancer::with_seed(1)).pick(&more, late, &[]).unwrap().address();
    assert_eq!(balancer.pick(&more, late, &[]).unwrap().address(), ranked);
    advance(LASTS + Duration::from_secs(1)).await;
    balancer.pick(&few, late, &[]).unwrap();
    assert_eq!(remembered(&balancer), 1, "those of long ago make room");
}

#[tokio::test(start_paused = true)]
async fn services_that_do_not_ask_for_it_are_balanced_and_nothing_is_remembered_of_them() {
    let (balancer, cluster) = (balancer(), cluster(5));
    let shares = shares(&balancer, &cluster, 1000, all_succeed);
    assert!(shares.iter().all(|share| *share > 100), "{shares:?}");
    assert_eq!(balancer.homes.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_is_narrowed_to_is_picked_whether_ready_or_not_and_nothing_else() {
    let all = vec![endpoint(0, true), endpoint(1, false), endpoint(2, true)];
    let narrowed = |to: &[u8]| {
        let to: Vec<_> = to.iter().map(|at| Arc::clone(&all[usize::from(*at)])).collect();
        let narrowed = Some(Narrowed { to: to.into(), by: Narrowing::Draining });
        Cluster { narrowed, ..cluster_of(all.clone()) }
    };
    let balancer = balancer();
    for _ in 0..50 {
        assert_eq!(last_byte(&balancer.pick(&narrowed(&[1]), CLIENT, &[]).unwrap()), 1);
    }
    assert!(balancer.pick(&narrowed(&[]), CLIENT, &[]).is_none());
}
