//! Whether a peer's certificates prove who it is: a pure decision over the chain, the trust, and the time.
//!
//! Both directions and one's own certificates go through [`verify`]. A DNS name decides nothing. It must never look at
//! where a connection comes from.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use config::identity::{Identity, TrustDomain};
use rustls::{
    CertificateError, Error, OtherError,
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime},
};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};

use super::{
    leaf::{self, LeafError},
    trust::Trust,
};

/// How far two clocks may be apart, either way.
pub const SKEW: Duration = Duration::from_secs(5 * 60);
/// A chain that is longer is no workload's. The verifier tries every order of what a stranger shows: with four intermediates
/// 64 paths at most, with nine it would be 79,000, before the peer has proven anything.
const CHAIN: usize = 5;

/// What an authority may sign with.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
    LazyLock::new(|| aws_lc_rs::default_provider().signature_verification_algorithms);

/// At which end of a connection the certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// It is the client's.
    Client,
    /// It is the server's.
    Server,
}

/// Why a peer's certificates prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It showed none.
    #[error("the peer showed no certificate")]
    Missing,
    /// It cannot be read, or is used for what it is not made for.
    #[error("the peer's certificate is not valid: {0}")]
    Malformed(String),
    /// It was valid once.
    #[error("the peer's certificate has expired")]
    Expired,
    /// It will be valid.
    #[error("the peer's certificate is not valid yet; are both clocks right?")]
    NotYetValid,
    /// Its authority has taken it back.
    #[error("the peer's certificate was revoked")]
    Revoked,
    /// Nobody who is trusted vouches for it.
    #[error("no authority that is trusted vouches for the peer's certificate")]
    UnknownAuthority,
    /// It is of another trust domain.
    #[error("the peer is of trust domain {theirs}, not {ours}")]
    TrustDomain {
        /// The peer's.
        theirs: TrustDomain,
        /// The own one.
        ours: TrustDomain,
    },
    /// Its name is no workload's.
    #[error("the peer's certificate names no workload: {0}")]
    NotAWorkload(LeafError),
    /// It is somebody else.
    #[error("the peer is {0}, which is not who was called")]
    OtherIdentity(Identity),
}

/// The key of the root that a chain rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor(Vec<u8>);

/// Which root vouches for a chain, if one does.
pub fn anchor(
    chain: &[CertificateDer<'_>],
    trust: &Trust,
    usage: Usage,
    now: UnixTime,
) -> Result<Anchor, PeerError> {
    let (leaf, intermediates) = chain.split_first().ok_or(PeerError::Missing)?;
    path_within_skew(leaf, intermediates, trust, usage, now).map(|path| path.anchor)
}

/// Who a chain (leaf first) proves its holder to be.
pub fn verify(
    chain: &[CertificateDer<'_>],
    trust: &Trust,
    usage: Usage,
    now: UnixTime,
) -> Result<Identity, PeerError> {
    let (leaf, intermediates) = chain.split_first().ok_or(PeerError::Missing)?;
    if chain.len() > CHAIN {
        return Err(PeerError::Malformed(format!("a chain of {} certificates", chain.len())));
    }
    path_within_skew(leaf, intermediates, trust, usage, now)?;
    let identity = match leaf::read(leaf) {
        Ok(leaf) => leaf.identity,
        Err(error @ (LeafError::Encoding | LeafError::Authority)) => {
            return Err(PeerError::Malformed(error.to_string()));
        }
        Err(error @ (LeafError::Uris(_) | LeafError::Identity(_))) => {
            return Err(PeerError::NotAWorkload(error));
        }
    };
    if identity.trust_domain != trust.trust_domain {
        let (theirs, ours) = (identity.trust_domain, trust.trust_domain.clone());
        return Err(PeerError::TrustDomain { theirs, ours });
    }
    Ok(identity)
}

/// As [`verify`], and it must be one of `allowed`.
pub fn verify_one_of(
    chain: &[CertificateDer<'_>],
    trust: &Trust,
    allowed: &[Identity],
    now: UnixTime,
) -> Result<Identity, PeerError> {
    one_of(verify(chain, trust, Usage::Server, now)?, allowed)
}

/// Whether who was verified is one of `allowed`.
pub(super) fn one_of(identity: Identity, allowed: &[Identity]) -> Result<Identity, PeerError> {
    if allowed.contains(&identity) { Ok(identity) } else { Err(PeerError::OtherIdentity(identity)) }
}

/// Whether a chain that was believed `then` would still be, but for the time: an authority may have taken it back, or be
/// trusted no more. That it has expired meanwhile is no reason to end what it began.
pub fn stands(
    chain: &[CertificateDer<'_>],
    trust: &Trust,
    usage: Usage,
    then: UnixTime,
) -> Result<(), PeerError> {
    let Some((leaf, intermediates)) = chain.split_first() else { return Err(PeerError::Missing) };
    match path_within_skew(leaf, intermediates, trust, usage, then) {
        Ok(_) => return Ok(()),
        Err(error @ (PeerError::Revoked | PeerError::UnknownAuthority)) => return Err(error),
        // It was valid then: this is of something that the peer showed besides, or of a list, and may hide what is true.
        Err(_) => {}
    }
    let unlisted = Trust { revocations: Arc::default(), ..trust.clone() };
    let Path { used, .. } = path_within_skew(leaf, intermediates, &unlisted, usage, then)
        .map_err(|_hidden| PeerError::UnknownAuthority)?;
    match path_within_skew(leaf, &used, trust, usage, then) {
        Err(error @ (PeerError::Revoked | PeerError::UnknownAuthority)) => Err(error),
        // A list that is nobody's here says nothing.
        _ => Ok(()),
    }
}

/// How a leaf leads to a root.
struct Path {
    /// The root.
    anchor: Anchor,
    /// Of what was shown besides the leaf, what is needed for it.
    used: Vec<CertificateDer<'static>>,
}

/// The time that is asked for decides first; where only it stands in the way, the nearest that would do, if it is near enough.
fn path_within_skew(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &Trust,
    usage: Usage,
    now: UnixTime,
) -> Result<Path, PeerError> {
    let nearest = match path(leaf, intermediates, trust, usage, now) {
        Err(webpki::Error::CertExpired { not_after, .. }) if now.as_secs() <= later(not_after).as_secs() => {
            not_after
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. })
            if later(now).as_secs() >= not_before.as_secs() =>
        {
            not_before
        }
        other => return other.map_err(peer_error),
    };
    path(leaf, intermediates, trust, usage, nearest).map_err(peer_error)
}

fn later(time: UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.as_secs()).saturating_add(SKEW))
}

fn path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &Trust,
    usage: Usage,
    time: UnixTime,
) -> Result<Path, webpki::Error> {
    let leaf = EndEntityCert::try_from(leaf)?;
    let usage = match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    };
    let lists: Vec<_> = trust.revocations.lists().iter().collect();
    // Without a list there is nothing to ask. A list that is out of date still says what was revoked.
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Ignore)
            .build()
    });
    leaf.verify_for_usage(ALGORITHMS.all, trust.roots.anchors(), intermediates, time, usage, revocation, None)
        .map(|path| Path {
            anchor: Anchor(path.anchor().subject_public_key_info.to_vec()),
            used: path.intermediate_certificates().map(|used| used.der().into_owned()).collect(),
        })
}

/// What the verifier of chains says, in our words.
pub fn peer_error(error: webpki::Error) -> PeerError {
    use webpki::Error as Chain;
    match error {
        Chain::CertExpired { .. } => PeerError::Expired,
        Chain::CertNotValidYet { .. } => PeerError::NotYetValid,
        Chain::CertRevoked => PeerError::Revoked,
        Chain::UnknownIssuer
        | Chain::InvalidSignatureForPublicKey
        | Chain::SignatureAlgorithmMismatch
        | Chain::EndEntityUsedAsCa
        | Chain::PathLenConstraintViolated
        | Chain::NameConstraintViolation => PeerError::UnknownAuthority,
        other => PeerError::Malformed(other.to_string()),
    }
}

/// As rustls takes it, so that the alert that the peer sees is the right one too.
impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        let certificate = match error {
            PeerError::Missing => return Self::NoCertificatesPresented,
            PeerError::Malformed(_) => CertificateError::BadEncoding,
            PeerError::Expired => CertificateError::Expired,
            PeerError::NotYetValid => CertificateError::NotValidYet,
            PeerError::Revoked => CertificateError::Revoked,
            PeerError::UnknownAuthority => CertificateError::UnknownIssuer,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        };
        Self::InvalidCertificate(certificate)
    }
}
