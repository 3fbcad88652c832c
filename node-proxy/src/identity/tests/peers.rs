//! Who is believed to be whom: the pure verification, as a table, and its labels.

use config::identity::TrustDomain;
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls::{AlertDescription, CertificateError, Error, pki_types::CertificateDer};

use super::support::{Anything, NOW, Odd, at, cart, web};
use crate::{
    identity::{
        failure,
        trust::{Revocations, Roots, Trust, TrustError},
        verify::{PeerError, Usage, stands, verify, verify_one_of},
    },
    telemetry::Reason,
};

const SKEW: u64 = 300;

#[test]
fn every_flaw_of_a_certificate_has_a_reason_of_its_own() {
    let (ours, theirs) = (Anything::new("ours"), Anything::new("theirs"));
    let odd = |odd: Odd<'_>| vec![ours.sign(&odd).0];
    let mut broken = odd(Odd::default());
    broken[0] = CertificateDer::from(broken[0][..100].to_vec());
    let rows = [
        ("a good one", odd(Odd::default()), None),
        ("none at all", vec![], Some(Reason::CertificateMissing)),
        ("cut off", broken, Some(Reason::CertificateMalformed)),
        ("of an unknown authority", vec![theirs.sign(&Odd::default()).0], Some(Reason::UnknownAuthority)),
        ("signed by a workload", ours.sign_with_a_leaf(), Some(Reason::UnknownAuthority)),
        ("expired", odd(Odd { until: NOW - SKEW - 1, ..Odd::default() }), Some(Reason::CertificateExpired)),
        ("expired within the skew", odd(Odd { until: NOW - SKEW, ..Odd::default() }), None),
        (
            "not valid yet",
            odd(Odd { from: NOW + SKEW + 1, ..Odd::default() }),
            Some(Reason::CertificateNotYetValid),
        ),
        ("almost valid", odd(Odd { from: NOW + SKEW, ..Odd::default() }), None),
        ("an authority's", odd(Odd { is_ca: true, ..Odd::default() }), Some(Reason::CertificateMalformed)),
        (
            "for servers only",
            odd(Odd { usages: vec![ServerAuth], ..Odd::default() }),
            Some(Reason::CertificateMalformed),
        ),
        ("for clients only", odd(Odd { usages: vec![ClientAuth], ..Odd::default() }), None),
        ("without a name", odd(Odd { uris: vec![], ..Odd::default() }), Some(Reason::IdentityMismatch)),
        (
            "with two names",
            odd(Odd {
                uris: vec!["spiffe://cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/c/sa/d"],
                ..Odd::default()
            }),
            Some(Reason::IdentityMismatch),
        ),
        (
            "with a name that is no workload's",
            odd(Odd { uris: vec!["spiffe://cluster.local/node/7"], ..Odd::default() }),
            Some(Reason::IdentityMismatch),
        ),
        (
            "of another trust domain",
            odd(Odd { uris: vec!["spiffe://other.test/ns/shop/sa/cart"], ..Odd::default() }),
            Some(Reason::TrustDomainMismatch),
        ),
    ];
    for (what, chain, expected) in rows {
        let verdict = verify(&chain, &ours.trust(), Usage::Client, at(NOW));
        assert_eq!(verdict.as_ref().err().map(PeerError::reason), expected, "{what}: {verdict:?}");
        // What rustls makes of it on its way is the same.
        if let Err(error) = verdict {
            assert_eq!(Some(failure::reason(&error.into())), expected, "{what}");
        }
    }
}

#[test]
fn server_has_to_be_one_of_those_who_are_called() {
    let ours = Anything::new("ours");
    let chain = [ours.sign(&Odd::default()).0];
    let judge = |allowed: &[_]| verify_one_of(&chain, &ours.trust(), allowed, at(NOW));
    assert_eq!(judge(&[web(), cart()]), Ok(cart()));
    assert_eq!(judge(&[web()]), Err(PeerError::OtherIdentity(cart())));
    assert_eq!(judge(&[]), Err(PeerError::OtherIdentity(cart())));
}

#[test]
fn skew_is_tolerated_also_by_certificates_that_live_shorter_than_it() {
    let ours = Anything::new("ours");
    let chain = [ours.sign(&Odd { from: NOW - 180, until: NOW - 60, ..Odd::default() }).0];
    assert_eq!(verify(&chain, &ours.trust(), Usage::Client, at(NOW)), Ok(cart()));
}

#[test]
fn what_a_list_takes_back_is_refused_and_the_rest_is_not() {
    let ours = Anything::new("ours");
    let lists = Revocations::read(ours.revoke(7).as_bytes()).unwrap();
    let trust = ours.trust_with(lists);
    let (taken, other) =
        ([ours.sign(&Odd::default()).0], [ours.sign(&Odd { serial: 8, ..Odd::default() }).0]);
    assert_eq!(verify(&taken, &trust, Usage::Client, at(NOW)), Err(PeerError::Revoked));
    assert_eq!(verify(&other, &trust, Usage::Client, at(NOW)), Ok(cart()));
    assert_eq!(stands(&taken, &trust, Usage::Client, at(NOW)), Err(PeerError::Revoked));
    assert_eq!(stands(&other, &trust, Usage::Client, at(NOW)), Ok(()));
    // A list of somebody who did not issue it says nothing.
    let stranger = Revocations::read(Anything::new("ours").revoke(7).as_bytes()).unwrap();
    assert_eq!(stands(&taken, &ours.trust_with(stranger), Usage::Client, at(NOW)), Ok(()));
}

#[test]
fn what_was_believed_stands_when_it_has_expired_and_falls_when_it_is_revoked_or_its_root_is_gone() {
    let (ours, theirs) = (Anything::new("ours"), Anything::new("theirs"));
    let then = NOW - 3300;
    let expired = [ours.sign(&Odd { until: NOW - 3000, ..Odd::default() }).0];
    let lists = |serial| Revocations::read(ours.revoke(serial).as_bytes()).unwrap();
    let judged = |trust| stands(&expired, &trust, Usage::Client, at(then));
    assert_eq!(judged(ours.trust_with(lists(9))), Ok(()));
    assert_eq!(judged(ours.trust_with(lists(7))), Err(PeerError::Revoked));
    assert_eq!(judged(theirs.trust_with(lists(9))), Err(PeerError::UnknownAuthority));
    let both = Roots::new([theirs.certificate.clone(), ours.certificate.clone()]).unwrap();
    let both = Trust { roots: both.into(), ..ours.trust_with(lists(7)) };
    assert_eq!(judged(both), Err(PeerError::Revoked), "also where other roots are tried");
}

#[test]
fn nothing_that_a_peer_shows_besides_its_certificate_keeps_it_believed() {
    let (ours, theirs) = (Anything::new("ours"), Anything::new("theirs"));
    let leaf = ours.sign(&Odd::default()).0;
    // An authority of the same name that has expired, and something that is no certificate: the verifier's word on either
    // comes before its word on the leaf.
    let namesake = Anything::new("ours").expired(NOW - 10_000);
    for (what, junk) in [("an expired namesake", namesake), ("no certificate", vec![0x30, 0].into())] {
        let chain = [leaf.clone(), junk];
        let judged = |trust| stands(&chain, &trust, Usage::Client, at(NOW));
        let revoked = Revocations::read(ours.revoke(7).as_bytes()).unwrap();
        assert_eq!(verify(&chain, &ours.trust(), Usage::Client, at(NOW)), Ok(cart()), "{what}");
        assert_eq!(judged(ours.trust()), Ok(()), "{what}");
        assert_eq!(judged(ours.trust_with(revoked)), Err(PeerError::Revoked), "{what}");
        assert_eq!(judged(theirs.trust()), Err(PeerError::UnknownAuthority), "{what}");
    }
}

#[test]
fn a_chain_that_takes_long_to_judge_is_refused_by_its_length() {
    let (ours, strangers) = (Anything::new("ours"), Anything::new("nobody"));
    let chain = |length: usize| {
        let more = (1..length).map(|_| Anything::new("nobody").certificate);
        [strangers.sign(&Odd::default()).0].into_iter().chain(more).collect::<Vec<_>>()
    };
    let judged = |length| verify(&chain(length), &ours.trust(), Usage::Client, at(NOW));
    assert_eq!(judged(5), Err(PeerError::UnknownAuthority));
    assert!(matches!(judged(6), Err(PeerError::Malformed(why)) if why.contains("6 certificates")));
}

#[test]
fn both_roots_are_trusted_during_a_change() {
    let (old, new) = (Anything::new("old"), Anything::new("new"));
    let roots = Roots::new([old.certificate.clone(), new.certificate.clone()]).unwrap();
    let trust = Trust { roots: roots.into(), ..old.trust() };
    for authority in [&old, &new] {
        let chain = [authority.sign(&Odd::default()).0];
        assert_eq!(verify(&chain, &trust, Usage::Server, at(NOW)), Ok(cart()));
    }
}

#[test]
fn roots_are_authorities_and_at_least_one() {
    let ours = Anything::new("ours");
    let leaf = ours.sign(&Odd::default()).0;
    assert!(matches!(Roots::new([]), Err(TrustError::Empty)));
    assert!(matches!(Roots::new([leaf]), Err(TrustError::NotAuthority)));
    assert!(matches!(Roots::new([CertificateDer::from(vec![1, 2])]), Err(TrustError::Encoding(_))));
    assert!(matches!(Roots::from_pem(b"no certificate here"), Err(TrustError::Empty)));
    assert!(Revocations::read(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").is_err());
}

#[test]
fn the_peers_alert_says_whether_it_was_about_our_certificate() {
    let reason = |alert| failure::reason(&Error::AlertReceived(alert));
    for alert in [
        AlertDescription::CertificateRequired,
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateRevoked,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnknownCA,
        AlertDescription::BadCertificate,
        AlertDescription::AccessDenied,
    ] {
        assert_eq!(reason(alert), Reason::CertificateRefused, "{alert:?}");
    }
    assert_eq!(reason(AlertDescription::HandshakeFailure), Reason::TlsFailed);
    assert_eq!(failure::reason(&Error::NoCertificatesPresented), Reason::CertificateMissing);
    let bad = Error::InvalidCertificate(CertificateError::BadSignature);
    assert_eq!(failure::reason(&bad), Reason::CertificateMalformed);
    assert_eq!(failure::reason(&Error::HandshakeNotComplete), Reason::TlsFailed);
    assert_eq!(failure::reason_of_io(&std::io::ErrorKind::ConnectionReset.into()), None);
}

#[test]
fn trust_domain_of_the_peer_is_told_from_ours() {
    let ours = Anything::new("ours");
    let odd = Odd { uris: vec!["spiffe://cluster.local.evil/ns/shop/sa/cart"], ..Odd::default() };
    let verdict = verify(&[ours.sign(&odd).0], &ours.trust(), Usage::Client, at(NOW));
    let theirs = TrustDomain::try_from("cluster.local.evil").unwrap();
    assert_eq!(verdict, Err(PeerError::TrustDomain { theirs, ours: TrustDomain::default() }));
}
