//! `baggage` (W3C Baggage): what a workload's proxy says of the workload. Pure.
//!
//! What is read is what the other end claims, for the log and nothing else: who it is, its certificate says. It must never keep
//! more of a claim than a name can have.

use std::fmt::Write;

use config::model::Workload;
use http::HeaderMap;

use super::LONGEST;
use crate::hbone::Site;

/// The field's name.
const NAME: &str = "baggage";

/// Bytes of one claim: as many as a DNS name, or the name of an object, can have. A longer one is left out, since a part of it
/// could be another's name.
const LONGEST_CLAIM: usize = 253;

/// What `baggage` says of the workload that sends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `k8s.cluster.name`.
    pub cluster: Option<Box<str>>,
    /// `k8s.namespace.name`.
    pub namespace: Option<Box<str>>,
    /// `k8s.pod.name`, or of another kind of workload.
    pub workload: Option<Box<str>>,
    /// `service.name`.
    pub service: Option<Box<str>>,
    /// `service.version`.
    pub version: Option<Box<str>>,
    /// `cloud.region`.
    pub region: Option<Box<str>>,
    /// `cloud.availability_zone`.
    pub zone: Option<Box<str>>,
}

impl Baggage {
    /// Reads one field.
    pub fn parse(text: &str) -> Self {
        Self::read(std::iter::once(text))
    }

    /// That of a head, which may have it in several fields.
    pub fn of(headers: &HeaderMap) -> Self {
        Self::read(headers.get_all(NAME).iter().filter_map(|field| field.to_str().ok()))
    }

    /// Whether nothing is claimed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Members that are unknown or broken are ignored, as the specification wants; of two of one key the first counts.
    fn read<'a>(fields: impl Iterator<Item = &'a str>) -> Self {
        let mut baggage = Self::default();
        let mut left = LONGEST;
        for field in fields {
            let Some(rest) = left.checked_sub(field.len()) else { break };
            left = rest;
            field.split(',').for_each(|member| baggage.take(member));
        }
        baggage
    }

    fn take(&mut self, member: &str) {
        // Properties after a `;` are of no meaning here.
        let Some((key, value)) = member.split(';').next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let place = match key.trim() {
            "k8s.cluster.name" => &mut self.cluster,
            "k8s.namespace.name" => &mut self.namespace,
            "k8s.deployment.name" | "k8s.cronjob.name" | "k8s.pod.name" | "k8s.job.name" => {
                &mut self.workload
            }
            "service.name" => &mut self.service,
            "service.version" => &mut self.version,
            "cloud.region" => &mut self.region,
            "cloud.availability_zone" => &mut self.zone,
            _ => return,
        };
        let value = value.trim();
        if place.is_none() && is_claim(value) {
            *place = Some(value.into());
        }
    }
}

/// Whether a value is made of what names of workloads, clusters and zones are made of: nothing that a log, or who reads one, could
/// take for more than a name, and nothing that parts members of `baggage`.
pub fn is_claim(value: &str) -> bool {
    let names = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@".contains(&byte);
    (1..=LONGEST_CLAIM).contains(&value.len()) && value.bytes().all(names)
}

/// A workload's `baggage`. A label that is no name is left out: nobody makes it say more than is so.
pub fn baggage(site: &Site, workload: &Workload) -> String {
    let mut text = String::with_capacity(128);
    let mut member = |key: &str, value: &str| {
        if is_claim(value) {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{key}={value}");
        }
    };
    let label = |keys: &[&str]| keys.iter().find_map(|key| workload.labels.get(*key)).map_or("", |text| text);
    member("k8s.cluster.name", site.cluster.as_deref().unwrap_or_default());
    member("k8s.namespace.name", workload.pod.namespace.as_str());
    member("k8s.pod.name", workload.pod.name.as_str());
    member("service.name", label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]));
    member(
        "service.version",
        label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]),
    );
    text
}

#[cfg(test)]
mod tests {
    use config::{
        identity::{Identity, TrustDomain},
        name::{Name, Namespace, PodName, ServiceAccount, TenantId},
    };

    use super::*;

    fn workload() -> Workload {
        let namespace = Namespace::try_from("shop").unwrap();
        let identity = Identity {
            trust_domain: TrustDomain::default(),
            namespace: namespace.clone(),
            service_account: ServiceAccount::try_from("cart").unwrap(),
        };
        let pod = PodName::new(namespace.clone(), Name::try_from("cart-1").unwrap());
        Workload::new(pod, TenantId::Namespace(namespace), identity)
    }

    #[test]
    fn a_workload_s_baggage_is_read_back_and_says_nothing_that_is_not_known() {
        let mut workload = workload();
        assert_eq!(baggage(&Site::default(), &workload), "k8s.namespace.name=shop,k8s.pod.name=cart-1");
        workload.labels.insert("app".to_owned(), "cart".to_owned());
        workload.labels.insert("version".to_owned(), "v2".to_owned());
        let site = Site { cluster: Some("east-1".to_owned()), ..Site::default() };
        let read = Baggage::parse(&baggage(&site, &workload));
        let expected = Baggage {
            cluster: Some("east-1".into()),
            namespace: Some("shop".into()),
            workload: Some("cart-1".into()),
            service: Some("cart".into()),
            version: Some("v2".into()),
            ..Baggage::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_label_adds_no_member() {
        let mut workload = workload();
        for label in ["cart,k8s.namespace.name=bank", "cart;x", "a b", "", "\"", &"a".repeat(254)] {
            workload.labels.insert("app".to_owned(), label.to_owned());
            let said = baggage(&Site::default(), &workload);
            assert_eq!(said, "k8s.namespace.name=shop,k8s.pod.name=cart-1", "{label}");
        }
    }

    #[test]
    fn every_member_has_its_place_and_no_other() {
        let value = "arn:aws:eks:eu-1:42:cluster/A_b.c@d";
        for (key, place) in [
            ("k8s.cluster.name", 0),
            ("k8s.namespace.name", 1),
            ("k8s.deployment.name", 2),
            ("k8s.cronjob.name", 2),
            ("k8s.pod.name", 2),
            ("k8s.job.name", 2),
            ("service.name", 3),
            ("service.version", 4),
            ("cloud.region", 5),
            ("cloud.availability_zone", 6),
        ] {
            let read = Baggage::parse(&format!("{key}={value}"));
            assert!(!read.is_empty(), "{key}");
            let Baggage { cluster, namespace, workload, service, version, region, zone } = read;
            let places = [cluster, namespace, workload, service, version, region, zone];
            for (number, found) in places.iter().enumerate() {
                assert_eq!(found.as_deref(), (number == place).then_some(value), "{key}: {places:?}");
            }
        }
    }

    #[test]
    fn broken_baggage_is_left_out_and_the_rest_is_read() {
        let read = Baggage::parse("=,, k8s.namespace.name = a ;p=1,service.name=,x=y,k8s.namespace.name=b");
        assert_eq!(read, Baggage { namespace: Some("a".into()), ..Baggage::default() });
        assert_eq!(Baggage::parse(&"k8s.pod.name=a,".repeat(1000)), Baggage::default());
        for value in ["a b", "a\"b", "a\\b", "<a>", "a%20b", "\u{e9}", "\u{202e}a", "a\tb", &"a".repeat(254)]
        {
            let read = Baggage::parse(&format!("service.name={value},k8s.pod.name=p"));
            assert_eq!(read, Baggage { workload: Some("p".into()), ..Baggage::default() }, "{value:?}");
        }
        let longest = "a".repeat(253);
        let read = Baggage::parse(&format!("service.name={longest}"));
        assert_eq!(read.service.as_deref(), Some(&*longest));
    }

    #[test]
    fn baggage_in_several_fields_is_one_and_what_is_too_much_of_it_is_not_looked_at() {
        let mut headers = HeaderMap::new();
        assert!(Baggage::of(&headers).is_empty());
        for field in ["k8s.cluster.name=k1", "k8s.namespace.name=a,service.name=s", "service.name=other"] {
            headers.append(NAME, field.parse().unwrap());
        }
        headers.append(NAME, http::HeaderValue::from_bytes(b"service.version=\xff").unwrap());
        headers.append(NAME, "x".repeat(LONGEST).parse().unwrap());
        headers.append(NAME, "service.version=v1".parse().unwrap());
        let expected = Baggage {
            cluster: Some("k1".into()),
            namespace: Some("a".into()),
            service: Some("s".into()),
            ..Baggage::default()
        };
        assert_eq!(Baggage::of(&headers), expected);
    }
}
