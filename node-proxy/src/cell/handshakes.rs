//! Handshakes of accepted tunnels that are under way, bounded for each peer's address, for each tree, and in all.
//!
//! Where there is no room, the oldest that has said nothing yet makes some: whoever means to speak does so within a round trip,
//! so it is he who dials and stays silent that loses, however many addresses he has. One that speaks is never pushed
//! out; it is for its deadline, and for its address's share, to end a slow one. Nothing here may wait for a peer.

use std::{cell::RefCell, collections::BTreeMap, net::IpAddr, rc::Rc};

use tokio::{net::TcpStream, sync::oneshot};

use super::Bound;

/// Those that are under way, the oldest first.
#[derive(Debug, Default)]
pub struct Handshakes(RefCell<Taken>);

#[derive(Debug, Default)]
struct Taken {
    so_far: u64,
    under_way: BTreeMap<u64, UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    tree: u64,
    peer: IpAddr,
    /// Tells it to make room; gone once it has spoken.
    silent: Option<oneshot::Sender<()>>,
}

/// One of them; its place is given back when this is dropped.
#[derive(Debug)]
pub struct Handshake {
    all: Rc<Handshakes>,
    number: u64,
    pushed_out: oneshot::Receiver<()>,
}

/// It has had to make room, without having said anything.
#[derive(Debug, thiserror::Error)]
#[error("a newer handshake needed the place of this one, in which nothing was said")]
pub struct PushedOut;

/// Of a tree's bound, the part that one peer's address may have in the whole cell. With half of it, no address alone fills a
/// tree, and a caller whose connections each have a tunnel may still open many at once.
const PEERS_PART: usize = 2;

impl Handshakes {
    /// One more, in a tree, with a peer; `None` where there is no room for it.
    pub fn begin(self: &Rc<Self>, tree: u64, peer: IpAddr, bound: Bound) -> Option<Handshake> {
        let peer = peer.to_canonical();
        let mut taken = self.0.borrow_mut();
        taken.make_room(bound.each.div_ceil(PEERS_PART), |other| other.peer == peer)?;
        taken.make_room(bound.each, |other| other.tree == tree)?;
        taken.make_room(bound.all, |_| true)?;
        let (silent, pushed_out) = oneshot::channel();
        let number = taken.so_far;
        taken.so_far += 1;
        taken.under_way.insert(number, UnderWay { tree, peer, silent: Some(silent) });
        Some(Handshake { all: Rc::clone(self), number, pushed_out })
    }
}

impl Taken {
    /// Sees that one more of those that `counts` names is within `most`.
    fn make_room(&mut self, most: usize, counts: impl Fn(&UnderWay) -> bool) -> Option<()> {
        if self.under_way.values().filter(|other| counts(other)).count() < most {
            return Some(());
        }
        let oldest = self.under_way.iter().find(|(_, other)| counts(other) && other.silent.is_some());
        let number = oldest.map(|(number, _)| *number)?;
        let silent = self.under_way.remove(&number)?.silent?;
        // Its task may have ended this moment: then it needs not be told.
        let _ = silent.send(());
        Some(())
    }
}

impl Handshake {
    /// Waits for its peer's first byte; from then on it keeps its place.
    pub async fn speaks(&mut self, socket: &TcpStream) -> Result<(), PushedOut> {
        let mut first = [0];
        tokio::select! {
            biased;
            _ = &mut self.pushed_out => return Err(PushedOut),
            // Not `readable()`, which may be so without a byte. An end or an error is for whoever reads to see.
            _ = socket.peek(&mut first) => {}
        }
        if let Some(own) = self.all.0.borrow_mut().under_way.get_mut(&self.number) {
            own.silent = None;
        }
        Ok(())
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.0.borrow_mut().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const BOUND: Bound = Bound { all: 6, each: 4 };

    fn peer(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    fn has_to_go(handshake: &mut Handshake) -> bool {
        handshake.pushed_out.try_recv().is_ok()
    }

    fn spoken(all: &Rc<Handshakes>, tree: u64, by: IpAddr) -> Option<Handshake> {
        let handshake = all.begin(tree, by, BOUND)?;
        all.0.borrow_mut().under_way.get_mut(&handshake.number)?.silent = None;
        Some(handshake)
    }

    #[test]
    fn an_address_has_half_of_a_trees_places_in_whichever_trees() {
        let all = Rc::new(Handshakes::default());
        let own = [spoken(&all, 1, peer(1)), spoken(&all, 2, peer(1))];
        assert!(own.iter().all(Option::is_some));
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert!(all.begin(1, peer(1), BOUND).is_none() && all.begin(3, mapped, BOUND).is_none());
        assert!(all.begin(1, peer(2), BOUND).is_some(), "another has room");
        drop(own);
        assert!(all.begin(1, peer(1), BOUND).is_some() && all.0.borrow().under_way.is_empty());
    }

    #[test]
    fn a_tree_and_the_cell_have_their_bounds_whoever_calls() {
        let all = Rc::new(Handshakes::default());
        let in_one: Vec<_> = (0..4).map(|number| spoken(&all, 1, peer(number))).collect();
        assert!(in_one.iter().all(Option::is_some) && all.begin(1, peer(9), BOUND).is_none());
        let in_another: Vec<_> = (4..6).map(|number| spoken(&all, 2, peer(number))).collect();
        assert!(in_another.iter().all(Option::is_some) && all.begin(3, peer(9), BOUND).is_none());
    }

    #[test]
    fn the_oldest_that_is_silent_makes_room_and_only_where_it_is_needed() {
        let all = Rc::new(Handshakes::default());
        let mut elsewhere = all.begin(2, peer(8), BOUND).unwrap();
        let mut speaking = spoken(&all, 1, peer(0)).unwrap();
        let mut silent: Vec<_> = (1..4).map(|number| all.begin(1, peer(number), BOUND).unwrap()).collect();
        let _newcomer = all.begin(1, peer(9), BOUND).unwrap();
        let gone: Vec<bool> = silent.iter_mut().map(has_to_go).collect();
        assert_eq!(gone, [true, false, false]);
        assert!(!has_to_go(&mut elsewhere) && !has_to_go(&mut speaking));
        assert_eq!(all.0.borrow().under_way.len(), 5, "its place is the newcomer's already");
    }
}
