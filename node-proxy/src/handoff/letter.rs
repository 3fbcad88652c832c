//! The bytes that announce a handoff to another process: whose connection it is, and for whom. One descriptor goes beside them.
//!
//! A cell names the workload that calls; the daemon, which knows who is who, judges that and says all of it to the receiver's cell.
//! What a cell wrote is bounded and read as what it is: the word of a stranger.

use std::{net::SocketAddr, sync::Arc};

use config::{
    model::Workload,
    name::{PodName, TenantId},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Board, Line};
use crate::telemetry::Reason;

/// Bytes of the largest letter of a cell: a pod's name has at most 317.
pub(super) const FROM_A_CELL: usize = 512;
/// Bytes of the largest letter to a cell: a workload with some hundred labels.
pub(super) const TO_A_CELL: usize = 64 * 1024;

/// From a cell to the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    /// The workload that calls.
    pub(super) source: PodName,
    pub(super) way: Way,
}

/// From the daemon to a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Guest {
    /// The workload that calls, as the daemon knows it and another tenant may.
    pub(super) source: Arc<Workload>,
    pub(super) way: Way,
}

/// Of which connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    pub(super) client: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) tree: u64,
}

/// The bytes of a letter.
pub(super) fn encode(letter: &impl Serialize) -> Option<Vec<u8>> {
    postcard::to_stdvec(letter).ok()
}

/// What bytes say; `None` where they are none.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((letter, [])) => Some(letter),
        _ => None,
    }
}

/// Whether a cell of `tenant` may make this call: as a workload of its own, from that workload's address, to a tree that is there.
pub(super) fn judge<'a>(
    call: &Call,
    tenant: &TenantId,
    board: &'a Board,
) -> Result<(Arc<Workload>, &'a Line), Reason> {
    let source = &board.line(&call.source).ok_or(Reason::EndpointGone)?.workload;
    let from = call.way.client.ip().to_canonical();
    if source.tenant != *tenant || !source.addresses.contains(&from) {
        return Err(Reason::IdentityMismatch);
    }
    let to = call.way.destination.ip().to_canonical();
    let line = board.tree(call.way.tree).filter(|line| line.workload.addresses.contains(&to));
    Ok((Arc::clone(source), line.ok_or(Reason::EndpointGone)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use config::name::Namespace;
    use proptest::prelude::*;

    use super::*;
    use crate::sys::packets::fingerprint;

    fn line(pod: &str, tenant: &str, address: &str, tree: u64) -> Line {
        let namespace = Namespace::try_from(tenant).unwrap();
        let workload = Workload {
            pod: PodName::new(namespace.clone(), pod.try_into().unwrap()),
            tenant: TenantId::Namespace(namespace),
            addresses: vec![address.parse().unwrap()],
            ..crate::handoff::tests::workload()
        };
        Line { workload: Arc::new(workload), tree, inbox: Arc::default() }
    }

    fn board() -> Board {
        let lines = vec![line("web", "shop", "10.0.0.1", 1), line("vault", "bank", "10.0.0.2", 2)];
        Board::new(1, lines, BTreeSet::new())
    }

    fn call(pod: &str, client: &str, destination: &str, tree: u64) -> Call {
        let (namespace, name) = pod.split_once('/').unwrap();
        let source = PodName::new(namespace.try_into().unwrap(), name.try_into().unwrap());
        let way = Way { client: client.parse().unwrap(), destination: destination.parse().unwrap(), tree };
        Call { source, way }
    }

    #[test]
    fn a_cell_calls_as_its_own_workloads_from_their_addresses_and_whom_there_is() {
        let (board, shop) = (board(), TenantId::Namespace("shop".try_into().unwrap()));
        let judged = |call: &Call| judge(call, &shop, &board).map(|(_, line)| line.tree);
        assert_eq!(judged(&call("shop/web", "10.0.0.1:4000", "10.0.0.2:80", 2)), Ok(2));
        assert_eq!(judged(&call("shop/web", "[::ffff:10.0.0.1]:4000", "10.0.0.2:80", 2)), Ok(2));
        for (what, call, reason) in [
            (
                "another tenant's pod",
                call("bank/vault", "10.0.0.2:1", "10.0.0.2:80", 2),
                Reason::IdentityMismatch,
            ),
            ("another's address", call("shop/web", "10.0.0.2:1", "10.0.0.2:80", 2), Reason::IdentityMismatch),
            (
                "a pod that is not there",
                call("shop/gone", "10.0.0.1:1", "10.0.0.2:80", 2),
                Reason::EndpointGone,
            ),
            ("no tree", call("shop/web", "10.0.0.1:1", "10.0.0.2:80", 3), Reason::EndpointGone),
            (
                "another tree's address",
                call("shop/web", "10.0.0.1:1", "10.0.0.3:80", 2),
                Reason::EndpointGone,
            ),
        ] {
            assert_eq!(judged(&call), Err(reason), "{what}");
        }
    }

    #[test]
    fn a_letter_survives_the_way_and_fits() {
        let longest = format!("{}/{}", "n".repeat(63), "p".repeat(253));
        let call = call(&longest, "[2001:db8::1]:65535", "[2001:db8::2]:65535", u64::MAX);
        let bytes = encode(&call).unwrap();
        assert!(bytes.len() <= FROM_A_CELL, "{}", bytes.len());
        assert_eq!(decode::<Call>(&bytes), Some(call));
        let guest = Guest { source: line("web", "shop", "10.0.0.1", 1).workload, way: call_way() };
        assert_eq!(decode::<Guest>(&encode(&guest).unwrap()), Some(guest));
    }

    #[test]
    fn the_bytes_of_letters_are_those_of_version_1_of_what_goes_to_and_from_cells() {
        let call = call("shop/web", "10.0.0.1:1", "[2001:db8::2]:80", 2);
        let guest = Guest { source: line("web", "shop", "10.0.0.1", 1).workload, way: call_way() };
        let bytes = [encode(&call).unwrap(), encode(&guest).unwrap()].concat();
        let sum = fingerprint(bytes);
        assert_eq!(sum, 1_087_624_646, "count up the version in forest/wire, and write down the new sum");
    }

    fn call_way() -> Way {
        call("shop/web", "10.0.0.1:1", "10.0.0.2:80", 2).way
    }

    proptest! {
        #[test]
        fn whatever_a_cell_writes_is_a_call_or_none(bytes in any::<Vec<u8>>()) {
            drop(decode::<Call>(&bytes));
        }
    }
}
