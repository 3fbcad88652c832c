//! The table of what is asked for, without a connection.

use super::*;

fn tenant() -> TenantId {
    TenantId::Namespace("shop".try_into().unwrap())
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn name(last: u8) -> String {
    name_of("", ip(last))
}

fn table(most: usize) -> Table {
    Table { most, ..Table::default() }
}

#[test]
fn an_address_is_asked_for_once_whoever_asks() {
    let (mut table, now) = (table(9), Instant::now());
    assert_eq!(table.want(None, &name(1), now), (Answer::Asked, true));
    assert_eq!(table.want(None, &name(1), now), (Answer::Asked, false));
    assert_eq!(table.orders(now), Orders { want: vec![name(1)], unwant: vec![] });
    assert_eq!(table.orders(now), Orders::default());
}

#[test]
fn what_is_nobodys_is_remembered_while_it_is_asked_for_and_a_while_longer() {
    let (mut table, now) = (table(9), Instant::now());
    table.want(None, &name(1), now);
    table.orders(now);
    table.answer(&name(1), Answer::Absent);
    assert_eq!(table.want(None, &name(1), now + ABSENT / 2), (Answer::Absent, false));
    assert_eq!(table.orders(now + ABSENT), Orders::default());
    assert_eq!(table.orders(now + 2 * ABSENT), Orders { want: vec![], unwant: vec![name(1)] });
    assert!(table.known.is_empty());
    assert_eq!(table.want(None, &name(1), now + 2 * ABSENT), (Answer::Asked, true));
}

#[test]
fn there_is_room_for_so_many_and_what_is_nobodys_makes_room() {
    let (mut table, now) = (table(2), Instant::now());
    table.want(None, &name(1), now);
    table.want(None, &name(2), now);
    assert_eq!(table.want(None, &name(3), now), (Answer::Full, false));
    assert_eq!(table.want(None, &name(2), now), (Answer::Asked, false), "what is asked for stays so");
    table.answer(&name(1), Answer::Absent);
    table.answer(&name(2), Answer::Present);
    assert_eq!(table.want(None, &name(3), now + ABSENT), (Answer::Asked, true));
    assert_eq!(
        table.want(None, &name(2), now + 2 * ABSENT),
        (Answer::Present, false),
        "what is there is not forgotten"
    );
}

#[test]
fn nobody_is_asked_for_what_is_no_address_of_anybody() {
    let demand = Demand::new(9, "");
    for nobody in ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1"] {
        assert_eq!(demand.want(nobody.parse().unwrap()), Answer::Absent, "{nobody}");
    }
    assert_eq!(demand.orders(), Orders::default());
}

#[test]
fn an_address_is_asked_for_as_one_of_the_nodes_own_network() {
    let demand = Demand::new(9, "lan");
    demand.want(ip(1));
    assert_eq!(demand.orders().want, ["lan/10.0.0.1"]);
}

#[tokio::test]
async fn a_cell_that_asks_hears_what_the_control_plane_says() {
    for (answer, found) in [
        (Answer::Present, Found::Known),
        (Answer::Absent, Found::Outside),
        (Answer::Refused, Found::Unanswered),
    ] {
        let demand = Demand::new(9, "");
        let asked = tokio::spawn(demand.find(&tenant(), ip(1)));
        demand.ordered().await;
        demand.answer(&[(name(1), answer)]);
        assert_eq!(asked.await.unwrap(), found);
    }
    assert_eq!(Demand::new(0, "").find(&tenant(), ip(1)).await, Found::Unanswered, "there is no room");
}

#[tokio::test]
async fn who_waits_is_told_when_there_is_an_answer() {
    let demand = Demand::new(9, "");
    let mut answered = demand.answered();
    assert_eq!(demand.want(ip(1)), Answer::Asked);
    demand.ordered().await;
    demand.clone().answer(&[(name(1), Answer::Present), (name(7), Answer::Present)]);
    answered.changed().await.unwrap();
    assert_eq!(demand.want(ip(1)), Answer::Present);
    assert_eq!(demand.want("::ffff:10.0.0.1".parse().unwrap()), Answer::Present, "it is the same address");
    assert_eq!(demand.want(ip(7)), Answer::Asked, "what nobody asked for takes no room");
}

#[test]
fn a_tenant_that_dials_everything_leaves_room_for_the_others() {
    let (mut table, now, greedy) = (table(SHARES), Instant::now(), tenant());
    assert_eq!(table.want(Some(&greedy), &name(1), now), (Answer::Asked, true));
    assert_eq!(table.want(Some(&greedy), &name(2), now), (Answer::Full, false), "that is its share");
    let other = TenantId::Namespace("bank".try_into().unwrap());
    assert_eq!(table.want(Some(&other), &name(2), now), (Answer::Asked, true));
    assert_eq!(table.want(Some(&greedy), &name(2), now), (Answer::Asked, false), "who asked is all the same");
    table.answer(&name(1), Answer::Absent);
    let later = now + ABSENT;
    assert_eq!(table.want(Some(&greedy), &name(3), later), (Answer::Asked, true), "it is given back");
}

#[test]
fn what_is_there_is_no_question_any_more_and_one_tenant_has_half_of_the_room_for_it() {
    let (mut table, now, greedy) = (table(2 * SHARES), Instant::now(), tenant());
    let ask = |table: &mut Table, number: u8| table.want(Some(&greedy), &name(number), now).0;
    for number in 1..=8 {
        assert_eq!(ask(&mut table, number), Answer::Asked, "{number}");
        table.answer(&name(number), if number % 2 == 0 { Answer::Present } else { Answer::Refused });
    }
    assert_eq!(ask(&mut table, 9), Answer::Full, "that is half of the room");
    table.answer(&name(1), Answer::Absent);
    assert_eq!(ask(&mut table, 9), Answer::Asked, "one is gone");
    assert_eq!(ask(&mut table, 10), Answer::Full, "two that are not there are its share");
    let other = TenantId::Namespace("bank".try_into().unwrap());
    assert_eq!(table.want(Some(&other), &name(10), now), (Answer::Asked, true));
}

#[test]
fn names_of_a_cache_take_room_and_are_let_go_where_it_is_wanted_but_not_those_that_are_asked_for() {
    let (demand, now) = (Demand::new(4, ""), Instant::now());
    demand.retain(["a", "b", "c"].map(str::to_owned).into_iter());
    let mut table = demand.table();
    assert_eq!(table.want(None, "a", now), (Answer::Asked, true));
    assert_eq!(table.want(None, &name(1), now), (Answer::Asked, true));
    assert_eq!(table.orders(now).unwant, Vec::<String>::new(), "there was room");
    assert_eq!(table.want(None, &name(2), now), (Answer::Asked, true));
    assert_eq!(table.want(None, &name(3), now), (Answer::Asked, true));
    assert_eq!(table.want(None, &name(4), now), (Answer::Full, false));
    assert_eq!(table.orders(now).unwant, ["b", "c"], "nobody has asked for them");
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_to_know_of_something_waits_until_it_is_answered_and_no_longer() {
    let demand = Demand::new(10, "");
    let ask = |demand: &Demand| demand.want_name("shop/cart");
    let patience = Duration::from_secs(2);
    assert_eq!(demand.settled(ask, patience).await, Answer::Asked);
    let answers = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        demand.answer(&[("shop/other".to_owned(), Answer::Absent)]);
        demand.answer(&[("shop/cart".to_owned(), Answer::Present)]);
    };
    let begun = Instant::now();
    let (settled, ()) = tokio::join!(demand.settled(ask, patience), answers);
    assert_eq!((settled, begun.elapsed()), (Answer::Present, Duration::from_secs(1)));
    assert_eq!(demand.settled(ask, patience).await, Answer::Present);
    assert_eq!(begun.elapsed(), Duration::from_secs(1), "it is known");
}
