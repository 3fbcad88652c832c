//! rustls as the mesh speaks it: TLS 1.3 only, mutual, ALPN `h2`, peers known by their SPIFFE ID alone.
//!
//! No session is resumed: each connection is judged by the trust of its own time, each peer proves its key. Nothing here must accept a peer that
//! `verify` does not.

use std::sync::Arc;

use config::identity::Identity;
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::SingleCertAndKey,
    time_provider::TimeProvider,
    version::TLS13,
};

use super::{
    believed::Believed,
    certificate::Certificate,
    leaf,
    trust::Trust,
    verify::{PeerError, Usage, one_of, verify},
};

/// What is negotiated by ALPN: HTTP/2, whose CONNECT carries the bytes.
pub const ALPN: &[u8] = b"h2";

/// Ciphers and key exchanges: AES-GCM, X25519 with ML-KEM-768 first. Of two ciphers that nobody can break the one first that takes
/// less time (decision 0014); who asks for the other gets it.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// What both ends of a connection are made with.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) clock: Arc<dyn TimeProvider>,
}

/// The client's end, speaking as the holder of `certificate` to one of `allowed`.
pub(super) fn client(
    parts: &Parts,
    certificate: &Certificate,
    trust: Trust,
    allowed: &[Identity],
) -> Result<ClientConfig, Error> {
    let verifier = Verifier::new(parts, trust, allowed);
    let key = SingleCertAndKey::from(Arc::clone(certificate.key()));
    let mut config =
        ClientConfig::builder_with_details(Arc::clone(&parts.provider), Arc::clone(&parts.clock))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(key));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// The server's end, speaking as the holder of `certificate` to whoever proves to be of its trust domain.
pub(super) fn server(parts: &Parts, certificate: &Certificate, trust: Trust) -> Result<ServerConfig, Error> {
    let verifier = Verifier::new(parts, trust, &[]);
    let key = SingleCertAndKey::from(Arc::clone(certificate.key()));
    let mut config =
        ServerConfig::builder_with_details(Arc::clone(&parts.provider), Arc::clone(&parts.clock))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(key));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Who the peer of an established connection has proven to be.
pub fn peer_identity(connection: &CommonState) -> Option<Identity> {
    let leaf = connection.peer_certificates()?.first()?;
    leaf::read(leaf).ok().map(|leaf| leaf.identity)
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    /// Who a server may be. Of no meaning for clients, whom policy judges.
    allowed: Box<[Identity]>,
    provider: Arc<CryptoProvider>,
    believed: Believed,
}

impl Verifier {
    fn new(parts: &Parts, trust: Trust, allowed: &[Identity]) -> Self {
        let (allowed, provider) = (allowed.into(), Arc::clone(&parts.provider));
        Self { trust, allowed, provider, believed: Believed::default() }
    }

    /// Who the peer is. What it is used for is always the same here: a configuration is of one end.
    fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<Identity, PeerError> {
        if let Some(identity) = self.believed.find(chain, now) {
            return Ok(identity);
        }
        let identity = verify(chain, &self.trust, usage, now)?;
        self.believed.keep(chain, &identity);
        Ok(identity)
    }

    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Only TLS 1.3 is spoken; this is for the compiler.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken".to_owned()))
}

fn chain<'a>(leaf: &CertificateDer<'a>, others: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf).chain(others).cloned().collect()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let identity = self.judge(&chain(leaf, others), Usage::Server, now)?;
        one_of(identity, &self.allowed)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(&chain(leaf, others), Usage::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
