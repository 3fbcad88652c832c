//! The balancer over paused time, with seeded chance: every run is the same run.

use std::net::{Ipv4Addr, Ipv6Addr};

use config::{model::AppProtocol, name::ServiceName};
use tokio::time::advance;

use super::*;
use crate::snapshot::{Narrowed, Narrowing};

mod affinity;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 200));

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn endpoint(last: u8, ready: bool) -> Arc<Endpoint> {
    Arc::new(Endpoint { ready, ..Endpoint::new(address(last), AppProtocol::Undeclared) })
}

fn cluster_of(endpoints: Vec<Arc<Endpoint>>) -> Cluster {
    let service = ServiceName::new("shop".try_into().unwrap(), "cart".try_into().unwrap());
    Cluster::new(service, 80, AppProtocol::Http1, endpoints.into())
}

fn cluster(count: u8) -> Cluster {
    cluster_of((0..count).map(|last| endpoint(last, true)).collect())
}

fn balancer() -> Rc<Balancer> {
    Rc::new(Balancer::with_seed(7))
}

/// How many of `picks`, one after the other, each endpoint gets; `ask` says how each goes.
fn shares(balancer: &Rc<Balancer>, cluster: &Cluster, picks: u32, ask: impl Fn(&Picked)) -> Vec<u32> {
    let mut shares = vec![0; cluster.endpoints.len()];
    for _ in 0..picks {
        let picked = balancer.pick(cluster, CLIENT, &[]).unwrap();
        ask(&picked);
        shares[usize::from(last_byte(&picked))] += 1;
    }
    shares
}

fn last_byte(picked: &Picked) -> u8 {
    match picked.address() {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(_) => panic!("only IPv4 here"),
    }
}

/// The first endpoint fails, all others answer in a millisecond.
fn first_fails(picked: &Picked) {
    if last_byte(picked) == 0 { picked.failed() } else { picked.succeeded(Duration::from_millis(1)) }
}

fn all_succeed(picked: &Picked) {
    picked.succeeded(Duration::from_millis(1));
}

fn is_ejected(balancer: &Balancer, last: u8) -> bool {
    balancer.states.borrow()[&address(last)].health.standing(Instant::now()) == Standing::Ejected
}

#[tokio::test(start_paused = true)]
async fn nothing_is_picked_where_nothing_is_ready() {
    assert!(balancer().pick(&cluster(0), CLIENT, &[]).is_none());
    assert!(balancer().pick(&cluster_of(vec![endpoint(1, false)]), CLIENT, &[]).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_not_ready_gets_nothing() {
    let cluster = cluster_of(vec![endpoint(0, true), endpoint(1, false), endpoint(2, true)]);
    let shares = shares(&balancer(), &cluster, 1000, all_succeed);
    assert_eq!(shares[1], 0, "{shares:?}");
    assert!(shares[0] > 400 && shares[2] > 400, "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn equal_endpoints_get_equal_shares() {
    let shares = shares(&balancer(), &cluster(5), 10_000, all_succeed);
    for share in &shares {
        assert!((1800..=2200).contains(share), "{shares:?}");
    }
}

/// As [`shares`], over time: a pick each 10 ms, each answered after what `latency` says, give or take a fifth.
async fn shares_over_time(
    balancer: &Rc<Balancer>,
    cluster: &Cluster,
    picks: u32,
    latency: impl Fn(u8) -> Duration,
) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut shares = vec![0; cluster.endpoints.len()];
    for _ in 0..picks {
        let picked = balancer.pick(cluster, CLIENT, &[]).unwrap();
        picked.succeeded(latency(last_byte(&picked)).mul_f64(0.8 + 0.4 * rng.f64()));
        shares[usize::from(last_byte(&picked))] += 1;
        advance(Duration::from_millis(10)).await;
    }
    shares
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_gets_less_and_its_share_back_when_it_is_fast_again() {
    let (balancer, cluster) = (balancer(), cluster(4));
    let fast = |_| Duration::from_millis(5);
    let slow = |last| if last == 0 { Duration::from_millis(100) } else { fast(last) };
    let while_slow = shares_over_time(&balancer, &cluster, 1000, slow).await;
    assert!((1..20).contains(&while_slow[0]), "{while_slow:?}");
    shares_over_time(&balancer, &cluster, 10_000, fast).await;
    let afterwards = shares_over_time(&balancer, &cluster, 10_000, fast).await;
    assert!(afterwards.iter().all(|share| (1500..3500).contains(share)), "{afterwards:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_answers_nothing_gets_no_more_than_its_queue_allows() {
    let (balancer, cluster) = (balancer(), cluster(3));
    let mut stuck = Vec::new();
    for _ in 0..1000 {
        let picked = balancer.pick(&cluster, CLIENT, &[]).unwrap();
        if last_byte(&picked) == 0 { stuck.push(picked) } else { all_succeed(&picked) }
    }
    assert!(stuck.len() <= 2, "{}", stuck.len());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_callers_give_up_gets_less() {
    let (balancer, cluster) = (balancer(), cluster(3));
    let mut given_up = 0;
    for _ in 0..1000 {
        let picked = balancer.pick(&cluster, CLIENT, &[]).unwrap();
        if last_byte(&picked) == 0 {
            advance(Duration::from_secs(1)).await;
            given_up += 1;
        } else {
            all_succeed(&picked);
        }
        drop(picked);
    }
    assert!(given_up <= 3, "{given_up}");
}

#[tokio::test(start_paused = true)]
async fn load_is_given_back_when_a_pick_is_dropped() {
    let (balancer, cluster) = (balancer(), cluster(1));
    let picked =
        (balancer.pick(&cluster, CLIENT, &[]).unwrap(), balancer.pick(&cluster, CLIENT, &[]).unwrap());
    let in_flight = || balancer.states.borrow()[&address(0)].in_flight.get();
    assert_eq!(in_flight(), 2);
    drop(picked);
    assert_eq!(in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_was_tried_is_not_picked_again_unless_it_is_the_only_one() {
    let balancer = balancer();
    for _ in 0..100 {
        let picked = balancer.pick(&cluster(2), CLIENT, &[address(0)]).unwrap();
        assert_eq!(picked.address(), address(1));
    }
    assert_eq!(balancer.pick(&cluster(1), CLIENT, &[address(0)]).unwrap().address(), address(0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_is_ejected_and_comes_back_slowly() {
    let (balancer, cluster) = (balancer(), cluster(4));
    let failing = shares(&balancer, &cluster, 1000, first_fails);
    assert_eq!(failing[0], 5, "{failing:?}");
    advance(Duration::from_millis(999)).await;
    assert_eq!(shares(&balancer, &cluster, 1000, all_succeed)[0], 0);
    advance(Duration::from_millis(101)).await;
    let returning = shares(&balancer, &cluster, 1000, all_succeed);
    assert!((1..=80).contains(&returning[0]), "{returning:?}");
    advance(Duration::from_secs(1)).await;
    let back = shares(&balancer, &cluster, 1000, all_succeed);
    assert!(back[0] > 180, "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn each_relapse_ejects_for_twice_as_long_up_to_a_minute() {
    let (balancer, cluster) = (balancer(), cluster(2));
    shares(&balancer, &cluster, 100, first_fails);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(is_ejected(&balancer, 0), "{seconds} s: before");
        advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
        assert!(is_ejected(&balancer, 0), "{seconds} s: just before its end");
        advance(Duration::from_millis(1)).await;
        assert!(!is_ejected(&balancer, 0), "{seconds} s: at its end");
        // It fails once more when it is asked again.
        shares(&balancer, &cluster, 1000, first_fails);
    }
}

#[tokio::test(start_paused = true)]
async fn good_behaviour_makes_the_next_ejection_short_again() {
    let (balancer, cluster) = (balancer(), cluster(2));
    shares(&balancer, &cluster, 100, first_fails);
    advance(Duration::from_secs(1)).await;
    shares(&balancer, &cluster, 1000, first_fails);
    advance(Duration::from_secs(20)).await;
    shares(&balancer, &cluster, 100, all_succeed);
    shares(&balancer, &cluster, 100, first_fails);
    advance(Duration::from_secs(1)).await;
    assert!(!is_ejected(&balancer, 0));
}

#[tokio::test(start_paused = true)]
async fn the_whole_set_is_never_ejected() {
    let (balancer, cluster) = (balancer(), cluster(4));
    let failing = shares(&balancer, &cluster, 1000, Picked::failed);
    assert!(failing.iter().all(|share| *share > 150), "{failing:?}");
    assert!((0..4).all(|last| is_ejected(&balancer, last)));
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_gets_all_however_many_do_not() {
    let (balancer, cluster) = (balancer(), cluster(4));
    let fail_below_three =
        |picked: &Picked| if last_byte(picked) < 3 { picked.failed() } else { all_succeed(picked) };
    // As over a kept connection: what is busy is not taken for worse than what is dead.
    let _busy: Vec<Picked> =
        (0..8).filter_map(|_| balancer.pick(&cluster, CLIENT, &[0, 1, 2].map(address))).collect();
    let shares = shares(&balancer, &cluster, 1000, fail_below_three);
    assert_eq!(shares, [5, 5, 5, 985]);
}

#[tokio::test(start_paused = true)]
async fn a_further_try_meets_one_that_answers_and_none_that_was_tried_or_is_in_trouble() {
    let (balancer, cluster) = (balancer(), cluster(5));
    for dead in 0..4 {
        // Once: far from ejected.
        let others: Vec<_> = (0..5).filter(|last| *last != dead).map(address).collect();
        balancer.pick(&cluster, CLIENT, &others).unwrap().failed();
    }
    let _busy: Vec<Picked> =
        (0..8).filter_map(|_| balancer.pick(&cluster, CLIENT, &[0, 1, 2, 3].map(address))).collect();
    for tried in 0..4 {
        let next = balancer.pick(&cluster, CLIENT, &[address(tried)]).unwrap();
        assert_eq!(next.address(), address(4), "after {tried}");
    }
    let all_but_one = [address(4), address(0), address(1), address(2)];
    assert_eq!(
        balancer.pick(&cluster, CLIENT, &all_but_one).unwrap().address(),
        address(3),
        "rather than one again"
    );
}

#[tokio::test(start_paused = true)]
async fn an_only_endpoint_is_picked_whatever_it_did() {
    let shares = shares(&balancer(), &cluster(1), 100, Picked::failed);
    assert_eq!(shares, [100]);
}

#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_that_answers_comes_back_at_once() {
    let (balancer, cluster) = (balancer(), cluster(2));
    shares(&balancer, &cluster, 100, Picked::failed);
    assert!(is_ejected(&balancer, 0) && is_ejected(&balancer, 1));
    shares(&balancer, &cluster, 1000, all_succeed);
    assert!(!is_ejected(&balancer, 0) && !is_ejected(&balancer, 1));
}

#[tokio::test(start_paused = true)]
async fn the_first_that_is_back_gets_nearly_all_while_the_others_are_ejected() {
    let (balancer, cluster) = (balancer(), cluster(10));
    shares(&balancer, &cluster, 1000, Picked::failed);
    let others: Vec<_> = (0..9).map(address).collect();
    balancer.pick(&cluster, CLIENT, &others).unwrap().succeeded(Duration::from_millis(1));
    let ask = |picked: &Picked| if last_byte(picked) == 9 { all_succeed(picked) } else { picked.failed() };
    let share = shares(&balancer, &cluster, 1000, ask)[9];
    assert!((920..1000).contains(&share), "{share}");
    let next = balancer.pick(&cluster, CLIENT, &[address(0)]).unwrap();
    assert_eq!(next.address(), address(9), "a further try, too");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_what_was_sent_before_the_ejection_does_not_end_it() {
    let (balancer, cluster) = (balancer(), cluster(1));
    let early = balancer.pick(&cluster, CLIENT, &[]).unwrap();
    advance(Duration::from_millis(10)).await;
    shares(&balancer, &cluster, 5, Picked::failed);
    early.succeeded(Duration::from_millis(10));
    assert!(is_ejected(&balancer, 0));
}

#[tokio::test(start_paused = true)]
async fn state_survives_a_new_snapshot_and_goes_with_its_endpoint() {
    let balancer = balancer();
    shares(&balancer, &cluster(3), 200, first_fails);
    assert!(is_ejected(&balancer, 0));
    balancer.retain(|known| known != address(2));
    assert!(is_ejected(&balancer, 0), "an endpoint that is still there");
    assert_eq!(balancer.states.borrow().len(), 2);
    assert!(balancer.views.borrow().is_empty());
    assert_eq!(shares(&balancer, &cluster(3), 200, all_succeed)[0], 0);
    balancer.retain(|_| false);
    assert!(balancer.states.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_address_in_two_clusters_has_one_state() {
    let balancer = balancer();
    let (one, other) = (cluster(2), cluster(3));
    shares(&balancer, &one, 100, first_fails);
    assert_eq!(shares(&balancer, &other, 300, all_succeed)[0], 0);
}

#[test]
fn clients_are_sent_to_endpoints_of_their_own_address_family_where_there_are_any() {
    let v6 = |last: u16| {
        let address = SocketAddr::from((Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last), 80));
        Arc::new(Endpoint::new(address, AppProtocol::Undeclared))
    };
    let balancer = balancer();
    let both = cluster_of(vec![endpoint(1, true), v6(1), v6(2)]);
    let (v4_client, v6_client) = (CLIENT, IpAddr::V6(Ipv6Addr::LOCALHOST));
    for _ in 0..50 {
        assert!(balancer.pick(&both, v4_client, &[]).unwrap().address().is_ipv4());
        assert!(balancer.pick(&both, v6_client, &[]).unwrap().address().is_ipv6());
    }
    let other = balancer.pick(&cluster_of(vec![v6(1)]), v4_client, &[]).unwrap();
    assert!(other.address().is_ipv6(), "another family is better than none");
    let unready = cluster_of(vec![endpoint(1, false), v6(1)]);
    assert!(balancer.pick(&unready, v4_client, &[]).unwrap().address().is_ipv6());
}

#[test]
fn nobody_of_a_cluster_behind_a_waypoint_is_picked() {
    let mut cluster = cluster(2);
    let balancer = balancer();
    assert!(balancer.pick(&cluster, CLIENT, &[]).is_some());
    cluster.waypoint = Some(Arc::from("shop/gate"));
    assert!(balancer.pick(&cluster, CLIENT, &[]).is_none());
    assert_eq!(cluster.emptiness(), crate::telemetry::Reason::Waypoint);
}
