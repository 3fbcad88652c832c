//! Objects that are very long, and wrong in many places: what is told of them, and done for them, is bounded.

use config::finding::{Finding, Reason};

use super::{SERVICE, SLICE, apply};

const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec:\n";

/// `count` items of a list, made of their numbers.
fn items(count: u32, item: impl Fn(u32) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

#[test]
fn an_entry_of_tens_of_thousands_of_hosts_has_as_many_as_are_looked_up_and_one_word_about_the_rest() {
    let hosts = items(50_000, |number| format!("h{number}.example.org"));
    let outcome = apply(&format!("{ENTRY}  ports: [{{number: 443}}]\n  hosts: [{hosts}]\n"));
    let entry = outcome.mesh.service_entries.values().next().unwrap();
    assert_eq!(entry.hosts.len(), 64);
    let told: Vec<_> = outcome.findings.iter().map(|finding| (&*finding.field, finding.reason)).collect();
    assert_eq!(told, [("spec.hosts[64]", Reason::TooLarge)], "{:#?}", outcome.findings);
}

#[test]
fn a_list_that_is_wrong_in_every_item_is_told_of_its_first_items_by_their_places() {
    let wrong = |number| format!("x{number}");
    for (text, first) in [
        (
            format!(
                "{ENTRY}  ports: [{{number: 443}}]\n  hosts: [a.example.org]\n  addresses: [{}]\n",
                items(50_000, wrong)
            ),
            "spec.addresses[0]",
        ),
        (
            format!("{ENTRY}  ports: [{{number: 443}}]\n  hosts: [{}]\n", items(50_000, wrong)),
            "spec.hosts[0]",
        ),
        (
            format!(
                "{SLICE}endpoints: [{}]\n",
                items(20_000, |number| format!("{{addresses: [x{number}]}}"))
            ),
            "endpoints[0].addresses[0]",
        ),
        (
            format!(
                "{SERVICE}  ports: [{}]\n",
                items(10_000, |number| format!("{{name: p{number}, port: 0}}"))
            ),
            "spec.ports[0].port",
        ),
    ] {
        let findings: Vec<Finding> = apply(&text).findings;
        assert!((2..=130).contains(&findings.len()), "{first}: {}", findings.len());
        for place in [first, &first.replacen("[0]", "[1]", 1)] {
            assert!(findings.iter().any(|finding| finding.field == place), "{place}: {:#?}", &findings[..2]);
        }
    }
}
