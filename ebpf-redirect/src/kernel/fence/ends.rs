//! Where the pod's links end: asked inside the pod's namespace, whose kernel knows the number of the other end and the
//! namespace it is in; no name is compared, no neighbour guessed.

use std::{
    fs::File,
    os::fd::{AsFd as _, BorrowedFd},
};

use crate::{
    RedirectError,
    netlink::{self, Link},
    netns,
};

/// The ends of a pod's links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// In the daemon's namespace, by their numbers there.
    pub(crate) host: Vec<u32>,
    /// The pod's links that leave it some other way, by their names in the pod.
    pub(crate) elsewhere: Vec<String>,
    /// What the pod's namespace is called in the daemon's.
    pub(crate) pod_netns: i32,
}

/// Looks for them. The daemon's namespace is that of the calling thread.
pub(crate) fn find(pod: &str, netns: BorrowedFd<'_>) -> Result<Ends, RedirectError> {
    let home = File::open(netns::OWN).map_err(|error| RedirectError::syscall("open", netns::OWN, error))?;
    let home = home.as_fd();
    let (links, home_there) =
        netns::inside(pod, netns, || Ok((netlink::links()?, netlink::known_netns(home)?)))?;
    let (host, elsewhere) = sort(&links, home_there);
    let mut ends = Ends { host, elsewhere, pod_netns: -1 };
    if !ends.host.is_empty() {
        ends.pod_netns = netlink::name_of_netns(netns)
            .map_err(|error| RedirectError::syscall("name the network namespace of", pod, error))?;
    }
    Ok(ends)
}

/// Links that end at home, and links that leave the pod and do not. What ends inside the pod, or is only there in
/// name (tunnels and their like), leaves by one of these or not at all.
fn sort(links: &[Link], home: Option<i32>) -> (Vec<u32>, Vec<String>) {
    let (mut host, mut elsewhere) = (Vec::new(), Vec::new());
    for link in links.iter().filter(|link| !link.loopback) {
        match (link.kind.as_deref(), link.peer, link.peer_netns) {
            (Some("veth" | "netkit"), Some(peer), Some(there)) if Some(there) == home => host.push(peer),
            (Some("veth" | "netkit"), _, None) => {}
            (None | Some("veth" | "netkit" | "macvlan" | "ipvlan"), ..) => elsewhere.push(link.name.clone()),
            _ => {}
        }
    }
    (host, elsewhere)
}

#[cfg(test)]
mod tests {
    use super::{Link, sort};

    fn link(name: &str, kind: &str, peer: Option<u32>, peer_netns: Option<i32>) -> Link {
        let kind = (!kind.is_empty()).then(|| kind.to_owned());
        Link { index: 2, name: name.to_owned(), kind, loopback: name == "lo", peer, peer_netns }
    }

    #[test]
    fn only_a_pair_whose_other_end_is_at_home_is_fenced() {
        let links = [
            link("lo", "", None, None),
            link("eth0", "veth", Some(7), Some(0)),
            link("net1", "veth", Some(9), Some(1)),
            link("inner", "veth", Some(3), None),
            link("tunl0", "ipip", None, None),
            link("vlan", "macvlan", Some(2), Some(0)),
            link("vf", "", None, None),
        ];
        let (host, elsewhere) = sort(&links, Some(0));
        assert_eq!(host, [7]);
        assert_eq!(elsewhere, ["net1", "vlan", "vf"]);
        assert_eq!(sort(&links, None).0, [0; 0]);
    }
}
