//! How the embedded authority's certificates are made: root, intermediate, leaf. Pure but for the random numbers.
//!
//! Every certificate begins [`SKEW`] before its making, so that nodes whose clocks are late accept it.

use std::time::Duration;

use config::identity::{Identity, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, Error,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd, string::Ia5String,
};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, UnixTime},
};
use zeroize::Zeroizing;

use crate::identity::{
    authority::{key::Key, request::uri},
    verify::SKEW,
};

/// Ten years.
const ROOT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// An authority's certificate and key.
pub(super) struct Issuer {
    certificate: CertificateDer<'static>,
    signer: rcgen::Issuer<'static, Key>,
    not_after: UnixTime,
}

/// What a leaf is made from.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// Whose it is.
    pub identity: &'a Identity,
    /// For how long.
    pub lifetime: Duration,
    /// From when.
    pub now: UnixTime,
}

impl Issuer {
    /// A new root.
    pub(super) fn root(trust_domain: &TrustDomain, now: UnixTime) -> Result<Self, Error> {
        let not_after = after(now, ROOT);
        let params = authority(trust_domain, "Canopy root", 1, now, not_after)?;
        let key = Key::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, signer: rcgen::Issuer::new(params, key), not_after })
    }

    /// One that was made earlier. What it is was checked by whoever read it.
    pub(super) fn existing(
        certificate: CertificateDer<'static>,
        key: Key,
        not_after: UnixTime,
    ) -> Result<Self, Error> {
        let signer = rcgen::Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate, signer, not_after })
    }

    /// An intermediate of this root. It ends no later than the root.
    pub(super) fn intermediate(
        &self,
        trust_domain: &TrustDomain,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<Self, Error> {
        let not_after = earlier(after(now, lifetime), self.not_after);
        let params = authority(trust_domain, "Canopy intermediate", 0, now, not_after)?;
        let key = Key::generate()?;
        let certificate = params.signed_by(&key, &self.signer)?.der().clone();
        Ok(Self { certificate, signer: rcgen::Issuer::new(params, key), not_after })
    }

    /// A leaf for the key of a signing request. Of the request, the key is taken, and that its sender has it is proven;
    /// nothing else of it counts.
    pub(super) fn leaf(&self, request: &[u8], leaf: Leaf<'_>) -> Result<CertificateDer<'static>, Error> {
        let Leaf { identity, lifetime, now } = leaf;
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))?;
        let until = earlier(after(now, lifetime), self.not_after);
        let mut params = named(&identity.to_string(), DistinguishedName::new(), now, until)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial()?));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&request.public_key, &self.signer)?.der().clone())
    }

    /// A server's certificate of these DNS names, for as long as the issuer's own, and its key. It says no SPIFFE ID, so that nobody
    /// who has it is taken for a workload.
    pub(super) fn server(
        &self,
        names: &[String],
        now: UnixTime,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Error> {
        let names = names.iter().map(|name| Ok(SanType::DnsName(Ia5String::try_from(name.as_str())?)));
        let names = names.collect::<Result<Vec<_>, Error>>()?;
        let mut params = dated(names, DistinguishedName::new(), now, self.not_after);
        params.serial_number = Some(SerialNumber::from_slice(&serial()?));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = Key::generate()?;
        let certificate = params.signed_by(&key, &self.signer)?.der().clone();
        Ok((certificate, key.into_der()))
    }

    /// Its certificate.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Until when it is valid.
    pub(super) fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Its key, in PEM: for the file of a root, and nothing else.
    pub(super) fn key_pem(&self) -> Zeroizing<String> {
        self.signer.key().pem()
    }
}

/// An authority's certificate, with a number in its name: two authorities of one name would be taken for one another.
fn authority(
    trust_domain: &TrustDomain,
    role: &str,
    path_length: u8,
    now: UnixTime,
    not_after: UnixTime,
) -> Result<CertificateParams, Error> {
    let serial = serial()?;
    let number: String = serial.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, trust_domain.as_str());
    name.push(DnType::CommonName, format!("{role} {number}"));
    let mut params = named(&format!("spiffe://{trust_domain}"), name, now, not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// 127 random bits: positive, as X.509 wants it.
fn serial() -> Result<[u8; 16], Error> {
    let mut bytes = [0_u8; 16];
    let random = aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| Error::RingUnspecified)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(bytes)
}

/// What root, intermediate and leaf have in common: a SPIFFE ID.
fn named(
    spiffe: &str,
    name: DistinguishedName,
    now: UnixTime,
    until: UnixTime,
) -> Result<CertificateParams, Error> {
    Ok(dated(vec![uri(spiffe)?], name, now, until))
}

/// What all certificates have in common.
fn dated(names: Vec<SanType>, name: DistinguishedName, now: UnixTime, until: UnixTime) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.distinguished_name = name;
    params.not_before = epoch + Duration::from_secs(before(now, SKEW).as_secs());
    params.not_after = epoch + Duration::from_secs(until.as_secs());
    params.use_authority_key_identifier_extension = true;
    params
}

fn after(now: UnixTime, lifetime: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_add(lifetime))
}

fn before(now: UnixTime, span: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_sub(span))
}

fn earlier(a: UnixTime, b: UnixTime) -> UnixTime {
    if a.as_secs() <= b.as_secs() { a } else { b }
}
