//! Pods whose network namespace is not there yet, is something else, or is another's.

use super::*;

#[tokio::test]
async fn a_pod_without_a_namespace_is_reported_and_planted_when_it_appears() {
    let directory = tempfile::tempdir().unwrap();
    let netns = directory.path().join("netns");
    let mut world = World::new();
    world.apply(&[("shop/cart", &netns), ("bank/teller", &own())]);
    world.forest.reached(Phase::Ready).await;
    let forest = world.until("one tree", |forest| trees(forest) == ["bank/teller"]).await;
    assert_eq!(forest.waiting.len(), 1);
    assert!(forest.waiting[0].problem.contains("canopy.mesh/netns"), "{}", forest.waiting[0].problem);

    std::os::unix::fs::symlink(own(), &netns).unwrap();
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    assert!(forest.waiting.is_empty());

    std::fs::remove_file(&netns).unwrap();
    let forest = world.until("one tree again", |forest| trees(forest) == ["bank/teller"]).await;
    assert_eq!(forest.waiting.len(), 1);
}

#[tokio::test]
async fn a_file_that_is_no_namespace_is_called_that() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut world = World::new();
    world.apply(&[("shop/cart", file.path())]);
    let forest = world.until("it waits", |forest| !forest.waiting.is_empty()).await;
    assert!(forest.waiting[0].problem.contains("is not a network namespace"));
    assert!(forest.cells.is_empty(), "no cell without a tree");
}

#[tokio::test]
async fn a_fifo_holds_up_no_other_pod() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut world = World::new();
    world.apply(&[("bank/teller", &fifo), ("shop/cart", &own())]);
    let forest = world.until("one tree", |forest| trees(forest) == ["shop/cart"]).await;
    assert!(forest.waiting[0].problem.contains("is not a network namespace"));
}

#[tokio::test]
async fn a_pod_whose_address_is_not_in_the_namespace_it_names_gets_no_tree_there() {
    let mut world = World::new();
    let thief = Workload {
        addresses: vec!["127.0.0.1".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        ..workload("shop/thief", &own())
    };
    world.apply_workloads([thief, workload("bank/teller", &own())], &Arc::default());
    let forest = world.until("one tree", |forest| trees(forest) == ["bank/teller"]).await;
    assert_eq!(forest.waiting.len(), 1);
    assert!(forest.waiting[0].problem.contains("2001:db8::7 (status.podIPs) is on no interface"));
}

/// A network namespace of its own, with an address; gone with its process.
struct Elsewhere(std::process::Child);

impl Elsewhere {
    const ADDRESS: &str = "192.0.2.7";

    fn make() -> Self {
        // The daemon enters it, which needs rights over it that a namespace of users does not give: no test without root.
        let is_root = rustix::process::geteuid().is_root();
        assert!(is_root, "this test makes a network namespace: run it as root, as `make test` does");
        let script =
            format!("ip link set lo up && ip addr add {}/32 dev lo && echo && exec sleep 60", Self::ADDRESS);
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--net", "sh", "-c", &script]).stdout(std::process::Stdio::piped());
        let mut made = Self(unshare.spawn().unwrap());
        made.0.stdout.take().unwrap().read_exact(&mut [0]).expect("a namespace is made");
        made
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    fn pod(&self, name: &str, address: &str) -> Workload {
        Workload { addresses: vec![address.parse().unwrap()], ..workload(name, &self.path()) }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_namespace_is_not_freed_until_whoever_claims_it_has_proven_to_be_there() {
    let netns = Elsewhere::make();
    let mut world = World::new();
    let victim = netns.pod("bank/teller", Elsewhere::ADDRESS);
    let neighbour = workload("shop/web", &own());
    world.apply_workloads([victim, neighbour.clone()], &Arc::default());
    let both = ["bank/teller", "shop/web"];
    world.until("planted", |forest| trees(forest) == both).await;

    // It leaves the configuration, and another names its namespace from an address that is not there.
    let thief = || netns.pod("shop/thief", "192.0.2.66");
    world.apply_workloads([thief(), neighbour.clone()], &Arc::default());
    let forest = world.until("the thief waits", |forest| !forest.waiting.is_empty()).await;
    assert_eq!(trees(&forest), both);
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    world.until("still, after it was tried again", |forest| trees(forest) == both).await;

    // Without a claim it goes as any other.
    world.apply_workloads([neighbour.clone()], &Arc::default());
    world.until("removed", |forest| trees(forest) == ["shop/web"]).await;

    // One that is there takes its place.
    let victim = netns.pod("bank/teller", Elsewhere::ADDRESS);
    world.apply_workloads([victim, neighbour.clone()], &Arc::default());
    world.until("planted again", |forest| trees(forest) == both).await;
    world.apply_workloads([thief(), neighbour.clone()], &Arc::default());
    world.until("the thief waits again", |forest| !forest.waiting.is_empty()).await;
    let heir = netns.pod("bank/heir", Elsewhere::ADDRESS);
    world.apply_workloads([heir, neighbour], &Arc::default());
    world.until("handed over", |forest| trees(forest) == ["bank/heir", "shop/web"]).await;
}
