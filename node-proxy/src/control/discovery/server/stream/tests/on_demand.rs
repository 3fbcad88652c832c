//! Workloads and Services that are asked for by one of their names.

use super::*;

const CART: &str = "shop/cart.shop.svc.cluster.local";

/// Two carts behind a Service, and a web that is behind none.
fn shop() -> Bench {
    let mut bench = Bench::new(&[
        ("a", namespace("shop", "one")),
        ("carts", pod("cart-1", "cart", "10.0.0.1") + &pod("cart-2", "cart", "10.0.0.2")),
        ("web", pod("web-1", "web", "10.0.0.9")),
        ("cart", service("cart", "10.96.0.1")),
    ]);
    bench.ask(Kind::Address, &["*"], &["*"]);
    assert_eq!(bench.all(), ["Address:"], "nothing is asked for yet");
    bench
}

#[test]
fn what_a_name_stands_for_is_sent_and_a_service_brings_its_pods() {
    for name in ["/10.96.0.1", CART] {
        let mut bench = shop();
        bench.ask(Kind::Address, &[name], &[]);
        assert_eq!(
            bench.all(),
            [format!("Address: +c//Pod/shop/cart-1 +c//Pod/shop/cart-2 +{CART}")],
            "{name}"
        );
    }
    for name in ["/10.0.0.9", "c//Pod/shop/web-1"] {
        let mut bench = shop();
        bench.ask(Kind::Address, &[name], &[]);
        assert_eq!(bench.all(), ["Address: +c//Pod/shop/web-1"], "{name}");
        let resource = bench.last[Kind::Address.type_url()].resources[0].clone();
        assert_eq!(resource.aliases, ["/10.0.0.9"]);
        assert!(!resource.resource.unwrap().value.is_empty());
    }
}

#[test]
fn a_name_of_nothing_is_answered_as_removed_and_sent_as_soon_as_there_is_something() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["/10.0.0.7", "/FD00::7", "/192.0.2.1"], &[]);
    assert_eq!(bench.all(), ["Address: -/10.0.0.7 -/192.0.2.1 -/FD00::7"]);
    assert!(!bench.write("web", &pod("web-1", "web", "10.0.0.8")), "another's change is nothing to it");
    assert_eq!(bench.all(), [""; 0]);
    bench.write("seven", &pod("seven", "web", "10.0.0.7"));
    bench.write("six", &pod("six", "web", "fd00::7"));
    assert_eq!(bench.all(), ["Address: +c//Pod/shop/seven +c//Pod/shop/six"]);
    assert_eq!(bench.stream.encoded(), 2);
}

#[test]
fn a_name_that_comes_to_be_known_before_it_is_answered_is_not_answered_as_removed() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["/10.0.0.7"], &[]);
    bench.write("seven", &pod("seven", "web", "10.0.0.7"));
    assert_eq!(bench.all(), ["Address: +c//Pod/shop/seven"]);
}

#[test]
fn many_changes_at_once_are_found_by_those_who_asked_before() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["/10.9.0.7", "/10.9.9.9"], &[]);
    bench.all();
    let many = (0..400)
        .map(|number| pod(&format!("p{number}"), "p", &format!("10.9.{}.{}", number / 250, number % 250)));
    bench.write("many", &many.collect::<String>());
    assert_eq!(bench.all(), ["Address: +c//Pod/shop/p7"], "and the other is not told again");
}

#[test]
fn pods_come_and_go_with_the_service_that_brought_them() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["/10.96.0.1"], &[]);
    bench.all();
    bench.write("third", &pod("cart-3", "cart", "10.0.0.3"));
    assert_eq!(bench.all(), [format!("Address: +c//Pod/shop/cart-3 +{CART}")]);
    // It is there, and not behind the Service any more.
    bench.write("third", &pod("cart-3", "web", "10.0.0.3"));
    assert_eq!(bench.all(), [format!("Address: +{CART}"), "Address: -c//Pod/shop/cart-3".to_owned()]);
    assert!(!bench.write("third", &pod("cart-3", "web", "10.0.0.33")), "it is of no interest now");
    // Of what it wants, all is told.
    bench.write("carts", &(pod("cart-1", "cart", "10.0.0.1") + &pod("cart-2", "cart", "10.0.0.22")));
    assert_eq!(bench.all(), [format!("Address: +c//Pod/shop/cart-2 +{CART}")]);
}

#[test]
fn an_address_that_becomes_anothers_brings_the_other() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["/10.0.0.9"], &[]);
    bench.all();
    bench.write("web", &(pod("web-1", "web", "10.0.0.8") + &pod("web-2", "web", "10.0.0.9")));
    assert_eq!(bench.all(), ["Address: +c//Pod/shop/web-2", "Address: -c//Pod/shop/web-1"]);
}

#[test]
fn what_is_gone_is_told_by_all_its_names_and_comes_back_under_them() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["/10.96.0.1"], &[]);
    bench.all();
    bench.remove("cart");
    let gone = format!("Address: -/10.96.0.1 -c//Pod/shop/cart-1 -c//Pod/shop/cart-2 -{CART}");
    assert_eq!(bench.all(), [gone]);
    bench.write("cart", &service("cart", "10.96.0.1"));
    assert_eq!(bench.all(), [format!("Address: +c//Pod/shop/cart-1 +c//Pod/shop/cart-2 +{CART}")]);
    // Gone and back before anybody could tell.
    bench.remove("cart");
    bench.write("cart", &service("cart", "10.96.0.1"));
    assert_eq!(bench.all(), [""; 0]);
}

#[test]
fn what_nobody_asks_for_any_more_is_taken_back_and_not_told_again() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["/10.96.0.1", "/10.0.0.1"], &[]);
    bench.all();
    bench.ask(Kind::Address, &[], &["/10.96.0.1", "/10.96.0.77"]);
    assert_eq!(
        bench.all(),
        [format!("Address: -c//Pod/shop/cart-2 -{CART}")],
        "cart-1 is asked for by itself"
    );
    assert!(!bench.write("cart", &service("cart", "10.96.0.2")));
    bench.ask(Kind::Address, &["/10.96.0.2"], &[]);
    assert_eq!(bench.all().len(), 1, "and may be asked for again");
}

#[test]
fn who_asks_expressly_is_answered_with_what_it_has() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["c//Pod/shop/web-1"], &[]);
    bench.all();
    for name in ["/10.0.0.9", "/10.0.0.9", "c//Pod/shop/web-1"] {
        bench.ask(Kind::Address, &[name], &[]);
        assert_eq!(bench.all(), ["Address: +c//Pod/shop/web-1"], "{name}");
    }
}

#[test]
fn who_comes_back_names_what_it_kept_and_gets_what_it_lacks() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["/10.96.0.1", "/10.0.0.9"], &[]);
    bench.one();
    let initial_versions = bench.versions(Kind::Address);
    bench.stream = Stream::new(Proof::Trusted);
    bench.write("web", &pod("web-1", "web", "10.0.0.99"));
    let again = request(Kind::Address, &["/10.96.0.1", "*"], &["*"]);
    bench.hear(&Request { initial_versions, ..again });
    assert_eq!(bench.all(), ["Address:", "Address: -c//Pod/shop/web-1"], "it is there, but not asked for");
    assert_eq!(bench.stream.encoded(), 0);
}

#[test]
fn who_asked_for_all_may_go_on_with_some() {
    let mut bench = shop();
    bench.ask(Kind::Address, &["*"], &[]);
    assert_eq!(bench.all().len(), 1);
    bench.ask(Kind::Address, &["/10.0.0.9"], &[]);
    bench.all();
    bench.write("web", &(pod("web-1", "web", "10.0.0.8") + &pod("web-2", "web", "10.0.0.9")));
    bench.all();
    bench.ask(Kind::Address, &[], &["*"]);
    let gone = ["cart-1", "cart-2", "web-1"].map(|name| format!(" -c//Pod/shop/{name}")).concat();
    assert_eq!(bench.all(), [format!("Address:{gone} -{CART}")], "web-2 has the address now");
}

#[test]
fn a_change_costs_who_has_it_what_changed_and_the_others_nothing() {
    let vip = |number: usize| format!("10.96.1.{number}");
    let services = (0..100).map(|number| {
        let name = format!("s{number}");
        let pods = (0..20).map(|of| pod(&format!("{name}-{of}"), &name, &format!("10.1.{number}.{of}")));
        service(&name, &vip(number)) + &pods.collect::<String>()
    });
    let files: Vec<(String, String)> =
        services.enumerate().map(|(number, text)| (format!("{number:02}"), text)).collect();
    let mut bench = Bench::new(&[("ns", namespace("shop", "one"))]);
    bench.files.extend(files.iter().map(|(name, text)| (PathBuf::from(name), FileText::from(&**text))));
    bench.stock();
    let asked = |from: usize| (from..from + 40).map(|number| format!("/{}", vip(number))).collect::<Vec<_>>();
    let ask = |bench: &mut Bench, from| {
        let subscribe = asked(from);
        bench.stream = Stream::new(Proof::Trusted);
        bench.hear(&Request { subscribe, ..request(Kind::Address, &[], &[]) });
        bench.all();
        bench.stream.encoded()
    };
    // Who has it, and who has not. One endpoint moves: its pod and its Service change.
    let moved = files[7].1.replace("'10.1.7.3'", "'10.2.7.3'");
    for (from, expected) in [(0, 2), (50, 0)] {
        let before = ask(&mut bench, from);
        assert_eq!(before, 40 * 21);
        assert_eq!(bench.write("07", &moved), expected > 0);
        assert_eq!(bench.all().len(), usize::from(expected > 0));
        assert_eq!(bench.stream.encoded() - before, expected, "from {from}");
        bench.write("07", &files[7].1);
    }
}
