//! In which order several types go.

use super::*;

fn route(name: &str, to: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: cart}}], rules: [{{backendRefs: [{{name: {to}, port: 80}}]}}]}}\n"
    )
}

/// A node that follows three types.
fn follows() -> Bench {
    let mut bench = Bench::new(&[
        ("a", namespace("shop", "one")),
        ("cart", service("cart", "10.96.0.1")),
        ("old", service("old", "10.96.0.2")),
    ]);
    bench.write("route", &route("r", "old"));
    // Backwards, which is nothing to what it gets.
    for kind in [Kind::Route, Kind::Address, Kind::Namespace] {
        bench.ask(kind, &[], &[]);
    }
    let words: Vec<_> = bench.all().iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(words, ["Namespace", "Address", "Route"]);
    bench
}

const OLD: &str = "shop/old.shop.svc.cluster.local";
const NEW: &str = "shop/new.shop.svc.cluster.local";

#[test]
fn what_others_refer_to_comes_first_and_what_is_gone_goes_last() {
    let mut bench = follows();
    bench.files.insert("new".into(), FileText::from(&*service("new", "10.96.0.3")));
    bench.files.remove(&PathBuf::from("old")).unwrap();
    bench.write("route", &route("r", "new"));
    let add = format!("Address: +{NEW}");
    assert_eq!(bench.all(), [&*add, "Route: +HTTPRoute/shop/r", &format!("Address: -{OLD}")]);
    bench.files.remove(&PathBuf::from("new")).unwrap();
    bench.remove("route");
    assert_eq!(bench.all(), ["Route: -HTTPRoute/shop/r", &format!("Address: -{NEW}")]);
}

#[test]
fn what_a_resource_may_refer_to_that_waits_for_an_answer_stays_until_it_is_sent() {
    let mut bench = follows();
    bench.write("route", &route("r", "cart"));
    assert_eq!(bench.one().unwrap(), "Route: +HTTPRoute/shop/r");
    bench.write("route", &route("r", "old"));
    bench.write("route", &route("r", "cart"));
    bench.remove("old");
    assert_eq!(bench.one(), None, "a route is to be sent that may lead there");
    bench.answer(Kind::Route, None);
    assert_eq!(bench.all(), [format!("Address: -{OLD}")]);
}

#[test]
fn one_type_that_is_not_answered_holds_up_no_other() {
    let mut bench = Bench::new(&[("a", namespace("shop", "one"))]);
    bench.ask(Kind::Namespace, &[], &[]);
    bench.ask(Kind::Authorization, &[], &[]);
    assert_eq!(bench.one().unwrap(), "Namespace: +shop");
    assert_eq!(bench.one().unwrap(), "Authorization:");
    bench.answer(Kind::Authorization, None);
    bench.write("a", &namespace("shop", "two"));
    bench.write("p", &policy("deny"));
    assert_eq!(bench.one().unwrap(), "Authorization: +shop/deny");
    assert_eq!(bench.one(), None);
}
