//! Real handshakes: the right identities at both ends, and the wrong one in every position.

use std::{sync::Arc, time::Duration};

use config::identity::TrustDomain;
use rustls::{ClientConfig, ServerConfig, pki_types::UnixTime};
use tokio::task::LocalSet;

use super::support::{Anything, Odd, Seen, call, cart, handshake, identity, web};
use crate::{
    identity::{
        certificate::Certificate,
        credentials::CredentialError,
        testing::{TestAuthority, credentials, no_sources},
        tls,
        trust::Revocations,
    },
    telemetry::Reason,
};

#[tokio::test]
async fn both_ends_know_who_the_other_is() {
    LocalSet::new()
        .run_until(async {
            let authority = TestAuthority::new();
            let (a, _kept) = credentials(authority.sources(), &[web()]);
            let (b, _kept) = credentials(authority.sources(), &[cart()]);
            let seen = call((&a, &web()), &cart(), (&b, &cart())).await;
            assert_eq!(seen, Seen { by_client: Ok(cart()), by_server: Ok(web()) });
        })
        .await;
}

#[tokio::test]
async fn server_that_is_not_who_was_called_is_refused() {
    LocalSet::new()
        .run_until(async {
            let authority = TestAuthority::new();
            let (a, _kept) = credentials(authority.sources(), &[web(), cart()]);
            let seen = call((&a, &web()), &cart(), (&a, &web())).await;
            assert_eq!(seen.by_client, Err(Reason::IdentityMismatch));
            assert_eq!(seen.by_server, Err(Reason::CertificateRefused));
        })
        .await;
}

#[tokio::test]
async fn authority_that_is_not_trusted_is_refused_at_both_ends() {
    LocalSet::new()
        .run_until(async {
            let (a, _kept) = credentials(TestAuthority::new().sources(), &[web()]);
            let (b, _kept) = credentials(TestAuthority::new().sources(), &[cart()]);
            let seen = call((&a, &web()), &cart(), (&b, &cart())).await;
            assert_eq!(seen.by_client, Err(Reason::UnknownAuthority));
            // A client that trusts the server shows itself, and is refused in turn.
            let parts = parts();
            let certificate = other_ends(
                &Anything::new("strangers"),
                Odd { from: 0, until: u32::MAX.into(), ..Odd::default() },
            );
            let trust = b.trust(&cart()).unwrap();
            let client = tls::client(&parts, &certificate, trust, &[cart()]).unwrap();
            let seen = handshake(Arc::new(client), b.server(&cart()).await.unwrap()).await;
            assert_eq!(seen.by_server, Err(Reason::UnknownAuthority));
            assert_eq!(seen.by_client, Err(Reason::CertificateRefused));
        })
        .await;
}

#[tokio::test]
async fn client_without_a_certificate_is_refused() {
    LocalSet::new()
        .run_until(async {
            let (b, _kept) = credentials(TestAuthority::new().sources(), &[cart()]);
            let server = b.server(&cart()).await.unwrap();
            let mut client = ClientConfig::clone(&*b.client(&cart(), &[cart()]).await.unwrap());
            client.client_auth_cert_resolver = Arc::new(Nothing);
            let seen = handshake(Arc::new(client), server).await;
            assert_eq!(seen.by_server, Err(Reason::CertificateMissing));
            assert_eq!(seen.by_client, Err(Reason::CertificateRefused));
        })
        .await;
}

#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// The flaw at the client's end, then at the server's: the other end has to see it.
#[tokio::test]
async fn every_flaw_is_seen_by_the_other_end_whichever_that_is() {
    let now = UnixTime::now().as_secs();
    let authority = Anything::new("ours");
    let sound = || Odd { from: now - 3600, until: now + 3600, ..Odd::default() };
    let revoked = Revocations::read(authority.revoke(66).as_bytes()).unwrap();
    let trust = authority.trust_with(revoked);
    let good = other_ends(&authority, sound());
    let parts = parts();
    let rows = [
        (sound(), None),
        (Odd { until: now - 400, ..sound() }, Some(Reason::CertificateExpired)),
        (Odd { until: now - 200, ..sound() }, None),
        (Odd { from: now + 400, ..sound() }, Some(Reason::CertificateNotYetValid)),
        (Odd { from: now + 200, ..sound() }, None),
        (Odd { serial: 66, ..sound() }, Some(Reason::CertificateRevoked)),
        (
            Odd { uris: vec!["spiffe://other.test/ns/shop/sa/cart"], ..sound() },
            Some(Reason::TrustDomainMismatch),
        ),
    ];
    for (odd, reason) in rows {
        let flawed = other_ends(&authority, odd);
        let allowed = [cart(), flawed.identity().clone()];
        let client =
            |certificate| Arc::new(tls::client(&parts, certificate, trust.clone(), &allowed).unwrap());
        let server = |certificate| Arc::new(tls::server(&parts, certificate, trust.clone()).unwrap());
        let at_client = handshake(client(&flawed), server(&good)).await;
        assert_eq!(at_client.by_server.err(), reason, "the client's");
        let at_server = handshake(client(&good), server(&flawed)).await;
        assert_eq!(at_server.by_client.err(), reason, "the server's");
    }
}

#[tokio::test]
async fn tls_that_the_mesh_does_not_speak_is_no_certificates_fault() {
    LocalSet::new()
        .run_until(async {
            let (b, _kept) = credentials(TestAuthority::new().sources(), &[cart()]);
            let server = b.server(&cart()).await.unwrap();
            let mut other = ServerConfig::clone(&server);
            other.alpn_protocols = vec![b"http/1.1".to_vec()];
            let seen = handshake(b.client(&cart(), &[cart()]).await.unwrap(), other.into()).await;
            assert_eq!(seen.by_server, Err(Reason::TlsFailed));
        })
        .await;
}

#[tokio::test]
async fn configurations_are_shared_until_the_peers_differ() {
    LocalSet::new()
        .run_until(async {
            let (a, _kept) = credentials(TestAuthority::new().sources(), &[web()]);
            let one = a.client(&web(), &[cart()]).await.unwrap();
            assert!(Arc::ptr_eq(&one, &a.client(&web(), &[cart()]).await.unwrap()));
            assert!(!Arc::ptr_eq(&one, &a.client(&web(), &[web()]).await.unwrap()));
            assert!(Arc::ptr_eq(&a.server(&web()).await.unwrap(), &a.server(&web()).await.unwrap()));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_first_certificate_ends() {
    LocalSet::new()
        .run_until(async {
            let (a, kept) = credentials(no_sources(), &[web()]);
            a.set_patience(Duration::from_millis(200));
            let error = a.client(&web(), &[cart()]).await.unwrap_err();
            assert!(matches!(&error, CredentialError::NotYet { .. }), "{error}");
            assert_eq!(error.reason(), Reason::CertificateUnavailable);
            drop(kept);
            assert!(matches!(a.server(&web()).await.unwrap_err(), CredentialError::Unknown(_)));
        })
        .await;
}

#[tokio::test]
async fn authority_of_another_trust_domain_gives_nothing() {
    LocalSet::new()
        .run_until(async {
            let authority = TestAuthority::of(TrustDomain::try_from("other.test").unwrap());
            let theirs = identity("spiffe://other.test/ns/shop/sa/web");
            let (a, _kept) = credentials(authority.sources(), &[web(), theirs.clone()]);
            a.set_patience(Duration::from_secs(2));
            let error = a.server(&web()).await.unwrap_err().to_string();
            assert!(error.contains("of another trust domain"), "{error}");
            assert!(a.server(&theirs).await.is_ok());
        })
        .await;
}

fn parts() -> tls::Parts {
    tls::Parts {
        provider: Arc::new(tls::provider()),
        clock: Arc::new(rustls::time_provider::DefaultTimeProvider),
    }
}

fn other_ends(authority: &Anything, odd: Odd<'_>) -> Certificate {
    let whose = identity(odd.uris[0]);
    let (certificate, key) = authority.sign(&odd);
    Certificate::new(vec![certificate], key, &whose).unwrap()
}
