//! Identities, odd certificates, and handshakes in memory.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use config::identity::{Identity, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd, string::Ia5String,
};
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    identity::{
        credentials::Credentials,
        failure, peer_identity,
        trust::{Revocations, Roots, Trust},
    },
    telemetry::Reason,
};

pub(in crate::identity) fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

pub(in crate::identity) fn cart() -> Identity {
    identity("spiffe://cluster.local/ns/shop/sa/cart")
}

pub(in crate::identity) fn web() -> Identity {
    identity("spiffe://cluster.local/ns/shop/sa/web")
}

/// A second in the middle of everything's validity.
pub(in crate::identity) const NOW: u64 = 1_800_000_000;

pub(in crate::identity) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// An authority that signs whatever it is asked to.
pub(in crate::identity) struct Anything {
    pub(in crate::identity) certificate: CertificateDer<'static>,
    pub(in crate::identity) issuer: Issuer<'static, KeyPair>,
}

/// A certificate as a test wants it.
pub(in crate::identity) struct Odd<'a> {
    pub(in crate::identity) uris: Vec<&'a str>,
    pub(in crate::identity) from: u64,
    pub(in crate::identity) until: u64,
    pub(in crate::identity) is_ca: bool,
    pub(in crate::identity) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(in crate::identity) serial: u8,
}

impl Default for Odd<'_> {
    fn default() -> Self {
        Self {
            uris: vec!["spiffe://cluster.local/ns/shop/sa/cart"],
            from: NOW - 3600,
            until: NOW + 3600,
            is_ca: false,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            serial: 7,
        }
    }
}

impl Odd<'_> {
    fn params(&self) -> CertificateParams {
        let uri = |uri: &&str| SanType::URI(Ia5String::try_from(*uri).unwrap());
        let mut params = CertificateParams::default();
        params.subject_alt_names = self.uris.iter().map(uri).collect();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(self.from);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(self.until);
        params.extended_key_usages = self.usages.clone();
        params.serial_number = Some(vec![self.serial].into());
        params.is_ca = match self.is_ca {
            true => IsCa::Ca(BasicConstraints::Unconstrained),
            false => IsCa::ExplicitNoCa,
        };
        params
    }
}

impl Anything {
    pub(in crate::identity) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(in crate::identity) fn sign(
        &self,
        odd: &Odd<'_>,
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = odd.params().signed_by(&key, &self.issuer).unwrap().der().clone();
        (certificate, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// Its own certificate, as it would be had it been valid until then.
    pub(in crate::identity) fn expired(self, until: u64) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ours");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(until - 1_000);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
        params.self_signed(self.issuer.key()).unwrap().der().clone()
    }

    /// A leaf that was signed with another leaf's key.
    pub(in crate::identity) fn sign_with_a_leaf(&self) -> Vec<CertificateDer<'static>> {
        let (key, inner) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = Odd::default().params();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        let outer = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let leaf = Odd::default().params().signed_by(&inner, &Issuer::new(params, key)).unwrap();
        vec![leaf.der().clone(), outer]
    }

    pub(in crate::identity) fn trust(&self) -> Trust {
        self.trust_with(Revocations::default())
    }

    pub(in crate::identity) fn trust_with(&self, revocations: Revocations) -> Trust {
        Trust {
            trust_domain: TrustDomain::default(),
            roots: Arc::new(Roots::new([self.certificate.clone()]).unwrap()),
            revocations: Arc::new(revocations),
        }
    }

    /// A list that takes back the certificate of this number, in PEM.
    pub(in crate::identity) fn revoke(&self, serial: u8) -> String {
        let day = |day| date_time_ymd(2020, 1, day);
        let params = rcgen::CertificateRevocationListParams {
            this_update: day(1),
            next_update: day(2),
            crl_number: vec![1].into(),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: vec![serial].into(),
                revocation_time: day(1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// How each end saw a handshake: who the other is, or why not.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::identity) struct Seen {
    pub(in crate::identity) by_client: Result<Identity, Reason>,
    pub(in crate::identity) by_server: Result<Identity, Reason>,
}

/// A handshake in memory, and one byte each way, since in TLS 1.3 a client learns of its refusal when it reads.
pub(in crate::identity) async fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Seen {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = async {
        let name = ServerName::try_from("ignored.invalid").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, near).await.map_err(reason)?;
        stream.write_all(b"x").await.map_err(reason)?;
        stream.read_u8().await.map_err(reason)?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let group = stream.get_ref().1.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768));
        peer_identity(stream.get_ref().1).ok_or(Reason::TlsFailed)
    };
    let server = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await.map_err(reason)?;
        stream.read_u8().await.map_err(reason)?;
        stream.write_all(b"y").await.map_err(reason)?;
        peer_identity(stream.get_ref().1).ok_or(Reason::TlsFailed)
    };
    let (by_client, by_server) = tokio::join!(client, server);
    Seen { by_client, by_server }
}

fn reason(error: io::Error) -> Reason {
    failure::reason_of_io(&error).unwrap_or(Reason::ConnectFailed)
}

/// A handshake of two identities of their cells.
pub(in crate::identity) async fn call(
    (caller, as_whom): (&Rc<Credentials>, &Identity),
    allowed: &Identity,
    (callee, is): (&Rc<Credentials>, &Identity),
) -> Seen {
    let client = caller.client(as_whom, std::slice::from_ref(allowed)).await.unwrap();
    handshake(client, callee.server(is).await.unwrap()).await
}
