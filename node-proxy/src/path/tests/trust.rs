//! Tunnels that stand while what is trusted changes: an authority that signs in memory, and takes back.

use std::sync::Mutex;

use config::identity::Identity;
use futures_util::future::LocalBoxFuture;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, date_time_ymd,
    string::Ia5String,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use super::{tunnels::Pair, *};
use crate::identity::{
    authority::{AuthorityError, CertificateAuthority, CertificateSource, Wanted},
    certificate::Certificate,
    credentials::Sources,
    trust::{Revocations, Roots},
};

/// One root, and the number of the last certificate that it signed.
struct Root {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    fn new(name: &str) -> Arc<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Arc::new(Self { certificate, issuer: Issuer::new(params, key) })
    }

    fn sign(&self, identity: &Identity) -> Certificate {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::URI(Ia5String::try_from(identity.to_string().as_str()).unwrap())];
        params.serial_number = Some(vec![number(identity)].into());
        params.is_ca = IsCa::ExplicitNoCa;
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Certificate::new(vec![leaf], key.into(), identity).unwrap()
    }

    /// A list that takes back what an account has.
    fn revoke(&self, account: &str) -> Arc<Revocations> {
        let day = |day| date_time_ymd(2020, 1, day);
        let params = CertificateRevocationListParams {
            this_update: day(1),
            next_update: day(2),
            crl_number: vec![1].into(),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: vec![number_of(account)].into(),
                revocation_time: day(1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap().pem().unwrap();
        Arc::new(Revocations::read(list.as_bytes()).unwrap())
    }
}

fn number(identity: &Identity) -> u8 {
    number_of(identity.service_account.as_str())
}

/// Every certificate of an account has the same number.
fn number_of(account: &str) -> u8 {
    account.bytes().fold(1_u8, |number, byte| number.wrapping_mul(31).wrapping_add(byte)) % 100 + 1
}

/// Signs by the root of now.
#[derive(Clone)]
struct Authority(Arc<State>);

struct State {
    root: Mutex<Arc<Root>>,
    roots: watch::Sender<Option<Arc<Roots>>>,
    /// Counts up when everybody is to have a new certificate.
    turns: watch::Sender<u64>,
}

/// One end's authority, and what it has taken back.
struct End {
    authority: Authority,
    revoked: watch::Sender<Arc<Revocations>>,
}

impl End {
    fn new(root: &Arc<Root>) -> Self {
        let authority = Authority(Arc::new(State {
            root: Mutex::new(Arc::clone(root)),
            roots: watch::Sender::new(None),
            turns: watch::Sender::new(0),
        }));
        let end = Self { authority, revoked: watch::Sender::new(Arc::default()) };
        end.trust(&[root]);
        end
    }

    fn sources(&self) -> Sources {
        let revocations = self.revoked.subscribe();
        Sources { revocations, ..Sources::new(Arc::new(self.authority.clone())) }
    }

    fn trust(&self, roots: &[&Arc<Root>]) {
        let roots = Roots::new(roots.iter().map(|root| root.certificate.clone())).unwrap();
        self.authority.0.roots.send_replace(Some(Arc::new(roots)));
    }

    fn sign_by(&self, root: &Arc<Root>) {
        *self.authority.0.root.lock().unwrap() = Arc::clone(root);
        self.authority.0.turns.send_modify(|turns| *turns += 1);
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl CertificateAuthority for Authority {
    fn name(&self) -> &'static str {
        "trust"
    }

    fn source(&self, wanted: &Wanted) -> Box<dyn CertificateSource> {
        let turns = self.0.turns.subscribe();
        Box::new(Source { identity: wanted.identity.clone(), authority: self.clone(), turns })
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.0.roots.subscribe()
    }
}

struct Source {
    identity: Identity,
    authority: Authority,
    turns: watch::Receiver<u64>,
}

impl CertificateSource for Source {
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>> {
        self.turns.mark_unchanged();
        let root = Arc::clone(&self.authority.0.root.lock().unwrap());
        Box::pin(async move { Ok(root.sign(&self.identity)) })
    }

    fn changed(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async {
            let _changed = self.turns.changed().await;
        })
    }
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_caller_whose_certificate_is_revoked_loses_its_tunnel_with_all_that_is_in_it_and_gets_no_other() {
    on_a_cell(async {
        let root = Root::new("ours");
        let (here, there) = (End::new(&root), End::new(&root));
        let pair = Pair::of([here.sources(), there.sources()], |_| ()).await;
        let (mut client, mut server) = pair.connect().await;
        let (mut second, mut other) = pair.connect().await;
        flows(&mut client, &mut server).await;
        flows(&mut second, &mut other).await;
        // Somebody else's: nothing happens.
        there.revoked.send_replace(root.revoke("somebody"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        flows(&mut client, &mut server).await;
        there.revoked.send_replace(root.revoke("caller"));
        for stream in [&mut client, &mut server, &mut second, &mut other] {
            assert!(reads_reset(stream).await);
        }
        pair.callee.emptied(3).await;
        let refusals =
            |reason| (pair.caller.cell.ledger.refusals(reason), pair.callee.cell.ledger.refusals(reason));
        assert_eq!(refusals(Reason::CertificateRevoked), (0, 3), "the tunnel and both its streams");
        assert_eq!(refusals(Reason::PeerDenied), (2, 0), "the caller is told");
        assert!(reads_reset(&mut pair.caller.dial(pair.address).await).await);
        pair.callee.emptied(4).await;
        assert_eq!(refusals(Reason::CertificateRevoked), (0, 4));
        assert_eq!(refusals(Reason::CertificateRefused), (1, 0));
        until(|| pair.caller.cell.ledger.tunnels_made.load(Relaxed) == 0).await;
    });
}

#[test]
fn a_receiver_whose_certificate_is_revoked_loses_what_callers_have_with_it_and_is_called_no_more() {
    on_a_cell(async {
        let root = Root::new("ours");
        let (here, there) = (End::new(&root), End::new(&root));
        let pair = Pair::of([here.sources(), there.sources()], |_| ()).await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        here.revoked.send_replace(root.revoke("callee"));
        assert!(reads_reset(&mut client).await && reads_reset(&mut server).await);
        pair.caller.emptied(1).await;
        assert_eq!(pair.caller.cell.ledger.refusals(Reason::CertificateRevoked), 1);
        assert!(reads_reset(&mut pair.caller.dial(pair.address).await).await);
        pair.caller.emptied(2).await;
        assert_eq!(pair.caller.cell.ledger.refusals(Reason::CertificateRevoked), 2);
        pair.callee.emptied(3).await;
    });
}

#[test]
fn a_change_of_root_moves_callers_to_new_tunnels_and_its_end_cuts_only_what_is_left_on_old_ones() {
    on_a_cell(async {
        let (old, new) = (Root::new("old"), Root::new("new"));
        let (here, there) = (End::new(&old), End::new(&old));
        let pair = Pair::of([here.sources(), there.sources()], |_| ()).await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        let ends = [&here, &there];
        ends.iter().for_each(|end| end.trust(&[&old, &new]));
        tokio::time::sleep(Duration::from_millis(50)).await;
        flows(&mut client, &mut server).await;
        assert_eq!(pair.tunnels(), 1, "trust in one more changes nothing");
        ends.iter().for_each(|end| end.sign_by(&new));
        let issued = |world: &World| world.cell.ledger.certificates.load(Relaxed);
        until(|| issued(&pair.caller) == 2 && issued(&pair.callee) == 2).await;
        let (mut second, mut other) = pair.connect().await;
        flows(&mut second, &mut other).await;
        flows(&mut server, &mut client).await;
        let tunnels = |world: &World| {
            (world.cell.ledger.tunnels_made.load(Relaxed), world.cell.ledger.tunnels_accepted.load(Relaxed))
        };
        assert_eq!(
            (tunnels(&pair.caller), tunnels(&pair.callee)),
            ((2, 0), (0, 2)),
            "the old one has a stream"
        );
        ends.iter().for_each(|end| end.trust(&[&new]));
        assert!(reads_reset(&mut client).await && reads_reset(&mut server).await);
        flows(&mut second, &mut other).await;
        flows(&mut other, &mut second).await;
        until(|| (tunnels(&pair.caller), tunnels(&pair.callee)) == ((1, 0), (0, 1))).await;
        let unknown = |world: &World| world.cell.ledger.refusals(Reason::UnknownAuthority);
        assert!(unknown(&pair.caller) + unknown(&pair.callee) >= 1);
    });
}

#[test]
fn an_unused_tunnel_of_a_root_that_is_given_up_goes_by_itself() {
    on_a_cell(async {
        let (old, new) = (Root::new("old"), Root::new("new"));
        let (here, there) = (End::new(&old), End::new(&old));
        let pair = Pair::of([here.sources(), there.sources()], |_| ()).await;
        drop(pair.connect().await);
        here.trust(&[&old, &new]);
        there.trust(&[&old, &new]);
        here.sign_by(&new);
        let made = &pair.caller.cell.ledger.tunnels_made;
        until(|| made.load(Relaxed) == 0).await;
        assert_eq!(pair.tunnels(), 0);
    });
}
