//! Any signing request that an authority is sent, as text or as bytes: no panic, and what it signs is for whom it was told to sign.

use std::{path::Path, sync::LazyLock, time::Duration};

use config::identity::Identity;
use node_proxy::identity::{
    authority::embedded::{
        Leaf,
        held::{self, Held, Reading, Texts},
    },
    leaf,
};
use rustls::pki_types::UnixTime;

use crate::text;

static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| "spiffe://cluster.local/ns/shop/sa/cart".parse().expect("an identity"));

static HELD: LazyLock<Held> = LazyLock::new(|| {
    let (trust_domain, now) = (&IDENTITY.trust_domain, UnixTime::now());
    let root = held::new_root(trust_domain, now).expect("a root");
    let texts = Texts::from([(held::ROOT.to_owned(), root.as_bytes().to_vec().into())]);
    let reading = Reading { place: Path::new("a test"), trust_domain, lifetime: HOUR, now };
    Held::read(&texts, reading).expect("it was just made")
});

const HOUR: Duration = Duration::from_secs(3600);

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    // What is no text is what a text may have in it.
    let request = held::request(text(bytes)).unwrap_or_else(|| bytes.to_vec());
    let asked = Leaf { identity: &IDENTITY, lifetime: HOUR, now: UnixTime::now() };
    if let Ok(chain) = HELD.sign(&request, asked) {
        let leaf = leaf::read(&chain[0]).expect("it was signed");
        assert_eq!(leaf.identity, *IDENTITY, "the request's own name was believed");
    }
}
