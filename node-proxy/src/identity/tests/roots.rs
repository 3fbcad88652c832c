//! Roots that go: what was established by one that was taken away ends, what was by one whose time was over goes on.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::LocalSet, time::sleep};

use super::{
    rotation::{moody, started},
    support::{Anything, NOW, Odd, cart},
};
use crate::identity::{
    credentials::{Peer, Sources, Standing},
    trust::Revocations,
    verify::{PeerError, Usage},
};

/// What becomes of a session whose peer is vouched for by a root of that end when the root goes, and then, when the peer is revoked.
async fn fate(root_ends: u64) -> [Standing; 2] {
    let (authority, sources) = moody();
    let lists = watch::Sender::new(Arc::<Revocations>::default());
    let peers = Anything::new("ours");
    let (chain, list) = ([peers.sign(&Odd::default()).0], peers.revoke(7));
    let root = peers.expired(root_ends);
    authority.trust(Some(&root));
    let (credentials, _ledger, _kept) = started(Sources { revocations: lists.subscribe(), ..sources });
    credentials.server(&cart()).await.unwrap();
    let since = credentials.trust_version();
    let peer = Peer { own: &cart(), chain: &chain, usage: Usage::Server, since };
    let session = credentials.establish(&peer).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(session.standing(), Standing::Stands);
    authority.trust(None);
    sleep(Duration::from_secs(1)).await;
    let gone = session.standing();
    lists.send_replace(Arc::new(Revocations::read(list.as_bytes()).unwrap()));
    sleep(Duration::from_secs(1)).await;
    [gone, session.standing()]
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_taken_away_ends_its_sessions_and_one_whose_time_is_over_does_not() {
    let fallen = |error: PeerError| Standing::Fallen(error);
    let (unknown, revoked) = (fallen(PeerError::UnknownAuthority), fallen(PeerError::Revoked));
    for (what, root_ends, fates) in [
        ("a root with a day left", NOW + 86_400, [unknown.clone(), unknown]),
        ("one that has ended", NOW - 1, [Standing::Stands, revoked.clone()]),
        ("one that has by a clock that is ahead", NOW + 200, [Standing::Stands, revoked]),
    ] {
        assert_eq!(LocalSet::new().run_until(fate(root_ends)).await, fates, "{what}");
    }
}
