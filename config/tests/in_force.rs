//! What is in force keeps its name, addresses and network namespace until it changes itself or goes: no file that
//! comes later takes them, whatever it is called.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Finding, Reason, Severity},
    store::{FileText, Options, Outcome, Store},
};

/// Files over time: each step sets some of them.
struct Directory {
    store: Store,
    files: BTreeMap<PathBuf, FileText>,
}

impl Directory {
    fn new() -> Self {
        let mut directory = Self { store: Store::new(Options::default()), files: BTreeMap::new() };
        directory.set("namespaces.yaml", &(namespace("shop") + &namespace("bank")));
        directory
    }

    fn set(&mut self, file: &str, text: &str) -> Outcome {
        self.files.insert(PathBuf::from(file), FileText::from(text));
        self.store.apply(&self.files)
    }

    fn remove(&mut self, file: &str) -> Outcome {
        self.files.remove(&PathBuf::from(file));
        self.store.apply(&self.files)
    }
}

fn namespace(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

fn service(namespace: &str, name: &str, vip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{clusterIP: {vip}, ports: [{{port: 80}}]}}\n"
    )
}

/// The address, and the network namespace of a pod.
fn pod(namespace: &str, name: &str, address: &str, netns: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, annotations: {{canopy.mesh/netns: {netns}}}}}\n\
         spec: {{containers: [{{name: c}}]}}\nstatus: {{podIP: {address}}}\n"
    )
}

fn tenant(name: &str, namespaces: &str) -> String {
    format!(
        "---\napiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec: {{namespaces: [{namespaces}]}}\n"
    )
}

fn rejections(outcome: &Outcome) -> Vec<&Finding> {
    outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected).collect()
}

fn workloads(outcome: &Outcome) -> Vec<String> {
    outcome.mesh.workloads.keys().map(ToString::to_string).collect()
}

fn services(outcome: &Outcome) -> Vec<String> {
    outcome.mesh.services.keys().map(ToString::to_string).collect()
}

const BANK: &str = "50-bank.yaml";
const SHOP: &str = "00-shop.yaml";

/// A claim on something that another object holds.
struct Case {
    name: &'static str,
    holder: String,
    claimant: String,
    /// Where the message says that the holder is.
    held_by: &'static str,
    reason: Reason,
}

fn cases() -> Vec<Case> {
    let teller = || pod("bank", "teller", "10.1.0.1", "/run/netns/teller");
    let ledger = || service("bank", "ledger", "10.96.0.1");
    let case = |name, holder, claimant, held_by, reason| Case { name, holder, claimant, held_by, reason };
    let taken = Reason::Conflict;
    vec![
        case(
            "a Service's cluster address, by a Service",
            ledger(),
            service("shop", "a", "10.96.0.1"),
            "Service bank/ledger already (50-bank.yaml:2)",
            taken,
        ),
        case(
            "a pod's address, by a pod",
            teller(),
            pod("shop", "a", "10.1.0.1", "/run/netns/a"),
            "Pod bank/teller already (50-bank.yaml:2)",
            taken,
        ),
        case(
            "a pod's address, by a Service",
            teller(),
            service("shop", "a", "10.1.0.1"),
            "Pod bank/teller already (50-bank.yaml:2)",
            taken,
        ),
        case(
            "a pod's network namespace, by a pod with an address of its own",
            teller(),
            pod("shop", "a", "10.1.0.9", "/run/netns/teller"),
            "Pod bank/teller already (50-bank.yaml:2)",
            taken,
        ),
        case(
            "a pod's network namespace, spelt otherwise",
            teller(),
            pod("shop", "a", "10.1.0.9", "/var/run/netns/teller"),
            "Pod bank/teller already (50-bank.yaml:2)",
            taken,
        ),
        case(
            "a tenant's namespace",
            tenant("bank", "bank"),
            tenant("another", "bank"),
            "Tenant bank already (50-bank.yaml:2)",
            taken,
        ),
        case(
            "a Service's name",
            ledger(),
            service("bank", "ledger", "10.96.0.66"),
            "line 2 of 50-bank.yaml",
            Reason::Duplicate,
        ),
        case(
            "a pod's name",
            teller(),
            pod("bank", "teller", "10.1.0.66", "/run/netns/other"),
            "line 2 of 50-bank.yaml",
            Reason::Duplicate,
        ),
    ]
}

#[test]
fn what_is_in_force_is_taken_by_no_file_that_comes_later() {
    for Case { name, holder, claimant, held_by, reason } in cases() {
        let mut directory = Directory::new();
        let before = directory.set(BANK, &holder);
        assert!(rejections(&before).is_empty(), "{name}: {:#?}", before.findings);
        let after = directory.set(SHOP, &claimant);
        let [finding] = rejections(&after)[..] else { panic!("{name}: {:#?}", after.findings) };
        assert_eq!((&*finding.file, finding.reason), (SHOP.as_ref(), reason), "{name}: {finding}");
        assert!(finding.message.contains(held_by), "{name}: {finding}");
        assert_eq!(*after.mesh, *before.mesh, "{name}");
        // The holder moves down by a line, and keeps what it has all the same.
        let moved = directory.set(BANK, &format!("# moved\n{holder}"));
        assert_eq!(*moved.mesh, *before.mesh, "{name}: moved");
        // Broken, too.
        let broken = directory.set(BANK, &holder.replace("metadata: {", "metadata: {nonsense: 1, "));
        assert_eq!(*broken.mesh, *before.mesh, "{name}: broken");
        let unreadable = directory.set(BANK, "{");
        assert_eq!(*unreadable.mesh, *before.mesh, "{name}: unreadable");
        // When the holder goes, the claimant has it.
        let gone = directory.remove(BANK);
        assert!(rejections(&gone).is_empty(), "{name}: {:#?}", gone.findings);
        assert!(!gone.changes.is_empty(), "{name}");
    }
}

#[test]
fn claimant_in_force_itself_keeps_what_it_had() {
    let mut directory = Directory::new();
    directory.set(BANK, &service("bank", "ledger", "10.96.0.1"));
    let before = directory.set(SHOP, &service("shop", "a", "10.96.0.2"));
    let after = directory.set(SHOP, &service("shop", "a", "10.96.0.1"));
    assert_eq!(rejections(&after).len(), 1);
    assert_eq!(*after.mesh, *before.mesh);
}

#[test]
fn holder_that_gives_something_up_frees_it_for_others_of_the_same_edit() {
    let mut directory = Directory::new();
    directory.set(BANK, &service("bank", "ledger", "10.96.0.1"));
    directory.files.insert(PathBuf::from(SHOP), FileText::from(&*service("shop", "a", "10.96.0.1")));
    let after = directory.set(BANK, &service("bank", "ledger", "10.96.0.2"));
    assert!(rejections(&after).is_empty(), "{:#?}", after.findings);
    assert_eq!(services(&after), ["bank/ledger", "shop/a"]);
}

#[test]
fn two_that_swap_and_three_that_move_on_are_accepted() {
    let mut directory = Directory::new();
    let three = |a: &str, b: &str, c: &str| {
        service("shop", "a", a) + &service("shop", "b", b) + &service("bank", "c", c)
    };
    directory.set(SHOP, &three("10.96.0.1", "10.96.0.2", "10.96.0.3"));
    for text in [
        three("10.96.0.2", "10.96.0.1", "10.96.0.3"),
        three("10.96.0.1", "10.96.0.3", "10.96.0.2"),
        three("10.96.0.3", "10.96.0.2", "10.96.0.4"),
    ] {
        let outcome = directory.set(SHOP, &text);
        assert!(rejections(&outcome).is_empty(), "{:#?}", outcome.findings);
        assert_eq!(services(&outcome).len(), 3);
    }
}

#[test]
fn move_that_fails_takes_back_what_it_gave_up_along_the_whole_chain() {
    let mut directory = Directory::new();
    let all = |a: &str, b: &str, c: &str| {
        service("shop", "a", a) + &service("shop", "b", b) + &service("bank", "c", c)
    };
    let before = directory.set(SHOP, &all("10.96.0.1", "10.96.0.2", "10.96.0.3"));
    // `a` wants `b`'s address, `b` wants that of `c`, and `c` stays; a newcomer wants that of `a`.
    let newcomer = service("bank", "d", "10.96.0.1");
    let outcome = directory.set(SHOP, &(newcomer + &all("10.96.0.2", "10.96.0.3", "10.96.0.3")));
    assert_eq!(rejections(&outcome).len(), 3, "{:#?}", outcome.findings);
    assert_eq!(*outcome.mesh, *before.mesh);
}

#[test]
fn service_in_force_is_not_lost_to_a_pod_that_calls_its_address_a_node_s() {
    let mut directory = Directory::new();
    let before = directory.set(BANK, &service("bank", "ledger", "10.96.0.1"));
    let host =
        pod("shop", "a", "10.1.0.1", "/run/netns/a").replace("status: {", "status: {hostIP: 10.96.0.1, ");
    let after = directory.set(SHOP, &host);
    assert_eq!(services(&after), services(&before), "{:#?}", after.findings);
}

#[test]
fn a_pod_has_the_address_of_a_service_that_is_in_force_and_the_service_is_told() {
    let told = "Pod shop/a already (00-shop.yaml:2)";
    let ledger = service("bank", "ledger", "10.96.0.1");
    let mut directory = Directory::new();
    directory.set(BANK, &ledger);
    let after = directory.set(SHOP, &pod("shop", "a", "10.96.0.1", "/run/netns/a"));
    assert_eq!((workloads(&after), services(&after)), (vec!["shop/a".to_owned()], Vec::new()));
    let [finding] = rejections(&after)[..] else { panic!("{:#?}", after.findings) };
    assert!(*finding.file == *PathBuf::from(BANK) && finding.message.contains(told), "{finding}");
    // A pod that is in force and moves there has it, too; and what the pod leaves, the Service has back.
    let mut directory = Directory::new();
    directory.set(SHOP, &pod("shop", "a", "10.1.0.1", "/run/netns/a"));
    directory.set(BANK, &ledger);
    let moved = directory.set(SHOP, &pod("shop", "a", "10.96.0.1", "/run/netns/a"));
    let [finding] = rejections(&moved)[..] else { panic!("{:#?}", moved.findings) };
    assert!(finding.message.contains(told), "{finding}");
    let gone = directory.remove(SHOP);
    assert_eq!((services(&gone), rejections(&gone).len()), (vec!["bank/ledger".to_owned()], 0));
}

#[test]
fn many_objects_of_one_namespace_push_out_no_pods_and_nothing_of_another_one() {
    let limits = config::Limits { objects: 4, ..config::Limits::default() };
    let account = |namespace: &str, number: u32| {
        format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: a{number}, namespace: {namespace}}}\n"
        )
    };
    let many: String = (0..9).map(|number| account("shop", number)).collect();
    let one = pod("bank", "teller", "10.1.0.1", "/run/netns/b") + &service("bank", "ledger", "10.96.0.1");
    // At once, and when the many are in force already.
    for is_first in [false, true] {
        let mut directory = Directory::new();
        directory.store = Store::new(Options { limits: limits.clone(), ..Options::default() });
        directory.files.insert(PathBuf::from(SHOP), FileText::from(&*many));
        if is_first {
            directory.set(BANK, "");
        }
        let outcome = directory.set(BANK, &one);
        assert_eq!(workloads(&outcome), ["bank/teller"], "{:#?}", outcome.findings);
        assert_eq!(services(&outcome).len(), usize::from(!is_first), "{:#?}", outcome.findings);
        let told: Vec<_> =
            outcome.findings.iter().filter(|finding| finding.reason == Reason::TooLarge).collect();
        assert_eq!(told.len(), 1, "{told:#?}");
    }
}

#[test]
fn objects_beyond_the_limit_are_newcomers_never_what_is_in_force() {
    let limits = config::Limits { objects: 1, ..config::Limits::default() };
    let mut directory = Directory::new();
    directory.store = Store::new(Options { limits, ..Options::default() });
    directory.set(BANK, &service("bank", "ledger", "10.96.0.1"));
    let more = (2..9).map(|number| service("shop", &format!("s{number}"), &format!("10.96.0.{number}")));
    let outcome = directory.set(SHOP, &more.collect::<String>());
    assert_eq!(services(&outcome), ["bank/ledger"]);
    assert_eq!(rejections(&outcome)[0].reason, Reason::TooLarge);
}

#[test]
fn among_newcomers_the_older_object_comes_first_and_then_the_path() {
    let dated = |text: String, time: &str| {
        text.replace("metadata: {", &format!("metadata: {{creationTimestamp: {time}, "))
    };
    let both = |shop: String, bank: String| {
        let mut directory = Directory::new();
        directory.files.insert(PathBuf::from(SHOP), FileText::from(&*shop));
        directory.set(BANK, &bank)
    };
    let (shop, bank) = (service("shop", "a", "10.96.0.1"), service("bank", "ledger", "10.96.0.1"));
    assert_eq!(services(&both(shop.clone(), bank.clone())), ["shop/a"]);
    let older = dated(bank.clone(), "2026-01-01T00:00:00Z");
    assert_eq!(services(&both(shop.clone(), older.clone())), ["bank/ledger"]);
    let younger = dated(shop, "2026-01-02T00:00:00Z");
    assert_eq!(services(&both(younger, older)), ["bank/ledger"]);
    let pods = |time| {
        let shop = pod("shop", "a", "10.1.0.1", "/run/netns/a");
        both(shop, dated(pod("bank", "teller", "10.1.0.1", "/run/netns/b"), time))
    };
    assert_eq!(workloads(&pods("2026-01-01T00:00:00Z")), ["bank/teller"]);
}

#[test]
fn pods_that_are_rejected_are_not_forgotten_by_their_network_namespaces() {
    let mut directory = Directory::new();
    let named = |outcome: &Outcome| outcome.rejected.netns.iter().cloned().collect::<Vec<_>>();
    let good = pod("shop", "a", "10.1.0.1", "/run/netns/a");
    // By itself, and for what another has.
    let outcome = directory.set(SHOP, &good.replace("podIP: 10.1.0.1", "podIP: nonsense"));
    assert_eq!(named(&outcome), [PathBuf::from("/run/netns/a")], "{:#?}", outcome.findings);
    let outcome = directory.set(SHOP, &(good.clone() + &pod("shop", "b", "10.1.0.1", "/run/netns/b")));
    assert_eq!(named(&outcome), [PathBuf::from("/run/netns/b")]);
    assert!(!outcome.rejected.may_be_more);
    // One that is in force is no such pod, whatever its file has become; what is broken may hold others.
    let outcome = directory.set(SHOP, "\u{7f}: [");
    assert!(named(&outcome).is_empty() && outcome.rejected.may_be_more, "{:#?}", outcome.rejected);
    let outcome = directory.set(SHOP, &good);
    assert_eq!(outcome.rejected, Default::default());
    // That of another node is not here.
    let options = Options { node: "here".try_into().ok(), ..Options::default() };
    directory.store = Store::new(options);
    let there =
        good.replace("spec: {", "spec: {nodeName: there, ").replace("podIP: 10.1.0.1", "podIP: nonsense");
    assert!(named(&directory.set(SHOP, &there)).is_empty());
}
