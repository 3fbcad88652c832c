//! The switchboard: which pods of this node are served by which cell's inbox.
//!
//! Immutable; the supervisor makes a new one when a tree is planted or uprooted or a cell is replaced, and gives it to every cell.
//! So looking somebody up takes no lock, and each cell knows at most one board of the past. A line that is out of date leads to
//! an inbox that refuses: every tree has a number of its own.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use config::{model::Workload, name::PodName};

use super::Inbox;

/// All lines of a node.
#[derive(Debug, Default)]
pub struct Board {
    /// Counts up with every board of the daemon.
    pub version: u64,
    lines: HashMap<PodName, Line>,
    /// Whose each tree is.
    trees: HashMap<u64, PodName>,
    /// Who has which address now.
    owners: HashMap<IpAddr, PodName>,
    /// Pods of this node whose network namespaces are not there.
    absent: BTreeSet<PodName>,
}

/// How a pod's tree is reached.
#[derive(Debug, Clone)]
pub struct Line {
    /// The pod, with its tenant and its addresses.
    pub workload: Arc<Workload>,
    /// Its tree.
    pub tree: u64,
    /// Of the cell that serves it now.
    pub inbox: Arc<Inbox>,
}

impl Board {
    /// A board with these lines, and with these pods that should have one and are not there.
    pub fn new(version: u64, lines: Vec<Line>, absent: BTreeSet<PodName>) -> Self {
        let mut board = Self { version, absent, ..Self::default() };
        for line in lines {
            let pod = &line.workload.pod;
            board.owners.extend(line.workload.addresses.iter().map(|address| (*address, pod.clone())));
            board.trees.insert(line.tree, pod.clone());
            board.lines.insert(pod.clone(), line);
        }
        board
    }

    /// Whether it has these lines and no others, and misses these pods and no others.
    pub fn says(&self, lines: &[Line], absent: &BTreeSet<PodName>) -> bool {
        let same = |line: &Line| self.lines.get(&line.workload.pod).is_some_and(|known| known.is(line));
        lines.len() == self.lines.len() && self.absent == *absent && lines.iter().all(same)
    }

    /// The pod of this node that has an address now.
    pub fn owner(&self, address: IpAddr) -> Option<&PodName> {
        self.owners.get(&address.to_canonical())
    }

    /// Whether who answers at this address, if anybody, is not the pod.
    pub fn is_gone(&self, pod: &PodName, address: IpAddr) -> bool {
        self.absent.contains(pod) || self.owner(address).is_some_and(|owner| owner != pod)
    }

    /// Whether an address that this board has on a line is not on that line in a `later` one.
    pub fn has_lost(&self, later: &Self, address: IpAddr) -> bool {
        let Some(line) = self.owner(address).and_then(|pod| self.line(pod)) else { return false };
        !later.line(&line.workload.pod).is_some_and(|later| later.is(line))
    }

    /// All its lines.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.values()
    }

    /// The pods that should be on it and are not there.
    pub fn absent(&self) -> &BTreeSet<PodName> {
        &self.absent
    }

    /// The line of a tree of this node.
    pub fn tree(&self, tree: u64) -> Option<&Line> {
        self.lines.get(self.trees.get(&tree)?).filter(|line| line.tree == tree)
    }

    /// The line of a pod of this node.
    pub fn line(&self, pod: &PodName) -> Option<&Line> {
        self.lines.get(pod)
    }
}

impl Line {
    /// Whether both lead to the same tree in the same cell.
    fn is(&self, other: &Self) -> bool {
        self.tree == other.tree && Arc::ptr_eq(&self.inbox, &other.inbox)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn line(tree: u64, inbox: &Arc<Inbox>) -> Line {
        let mut workload = crate::handoff::tests::workload();
        workload.addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Line { workload: Arc::new(workload), tree, inbox: Arc::clone(inbox) }
    }

    #[test]
    fn a_pod_that_came_back_or_whose_cell_was_replaced_is_on_another_line() {
        let (inbox, next) = (Arc::default(), Arc::default());
        let board = Board::new(1, vec![line(1, &inbox)], BTreeSet::new());
        let lost = |later: Vec<Line>| {
            let same = board.says(&later, &BTreeSet::new());
            let lost = board.has_lost(&Board::new(2, later, BTreeSet::new()), Ipv4Addr::LOCALHOST.into());
            assert_eq!(same, !lost);
            lost
        };
        assert!(!lost(vec![line(1, &inbox)]));
        assert!(lost(vec![line(2, &inbox)]));
        assert!(lost(vec![line(1, &next)]));
        assert!(lost(Vec::new()));
    }

    #[test]
    fn an_address_is_not_its_pods_when_another_has_it_or_the_pod_is_not_there() {
        let here = line(1, &Arc::default());
        let (pod, address) = (here.workload.pod.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let other = PodName::new(pod.namespace.clone(), "other".try_into().unwrap());
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let board = Board::new(1, vec![here], BTreeSet::from([other.clone()]));
        assert!(!board.is_gone(&pod, address) && !board.is_gone(&pod, elsewhere));
        assert!(board.is_gone(&other, address), "it is another's");
        assert!(board.is_gone(&other, elsewhere), "its pod is not there");
        assert!(!board.says(&[], &BTreeSet::new()));
    }
}
