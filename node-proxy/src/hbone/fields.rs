//! The header fields that go with a CONNECT and its answer: `baggage`, `forwarded`, `traceparent`. Pure.
//!
//! They are what the other side claims of itself: nothing here may ever decide about a connection. So far only the port of a
//! `forwarded` client informs anything.

use std::{fmt::Write, net::SocketAddr};

use config::model::Workload;

/// Bytes of one of these fields that are looked at; a longer one is ignored.
const LONGEST: usize = 8 << 10;

/// What `baggage` (W3C Baggage) says of the workload that sends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `k8s.cluster.name`.
    pub cluster: Option<String>,
    /// `k8s.namespace.name`.
    pub namespace: Option<String>,
    /// `k8s.pod.name`, or of another kind of workload.
    pub workload: Option<String>,
    /// `service.name`.
    pub service: Option<String>,
    /// `service.version`.
    pub version: Option<String>,
}

/// What `forwarded` (RFC 7239) says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's own address.
    pub client: Option<SocketAddr>,
    /// The Service that was called.
    pub host: Option<String>,
}

impl Baggage {
    /// Reads it. Members that are unknown or broken are ignored, as the specification wants.
    pub fn parse(text: &str) -> Self {
        let mut baggage = Self::default();
        if text.len() > LONGEST {
            return baggage;
        }
        for member in text.split(',') {
            // Properties after a `;` are of no meaning here.
            let Some((key, value)) = member.split(';').next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let place = match key.trim() {
                "k8s.cluster.name" => &mut baggage.cluster,
                "k8s.namespace.name" => &mut baggage.namespace,
                "k8s.deployment.name" | "k8s.cronjob.name" | "k8s.pod.name" | "k8s.job.name" => {
                    &mut baggage.workload
                }
                "service.name" => &mut baggage.service,
                "service.version" => &mut baggage.version,
                _ => continue,
            };
            let value = value.trim();
            if !value.is_empty() && place.is_none() {
                *place = Some(value.to_owned());
            }
        }
        baggage
    }
}

/// A workload's `baggage`.
pub fn baggage(workload: &Workload) -> String {
    let mut text = String::with_capacity(128);
    let mut member = |key: &str, value: &str| {
        if !value.is_empty() {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{key}={value}");
        }
    };
    let label = |keys: &[&str]| keys.iter().find_map(|key| workload.labels.get(*key)).map_or("", |text| text);
    member("k8s.namespace.name", workload.pod.namespace.as_str());
    member("k8s.pod.name", workload.pod.name.as_str());
    member("service.name", label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]));
    member(
        "service.version",
        label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]),
    );
    text
}

impl Forwarded {
    /// Reads it. Of several proxies the first, who saw the client, is believed; what is broken is left out.
    pub fn parse(text: &str) -> Self {
        let mut forwarded = Self::default();
        if text.len() > LONGEST {
            return forwarded;
        }
        for pair in elements(text) {
            let Some((key, value)) = pair.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "for" if forwarded.client.is_none() => forwarded.client = value.parse().ok(),
                "host" if forwarded.host.is_none() && !value.is_empty() => {
                    forwarded.host = Some(value.to_owned());
                }
                _ => {}
            }
        }
        forwarded
    }
}

/// The pairs of the first element: up to a comma, split at semicolons, neither of them inside quotes.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let end = text.find(|character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    });
    let mut quoted = false;
    text[..end.unwrap_or(text.len())].split(move |character| {
        quoted ^= character == '"';
        character == ';' && !quoted
    })
}

/// `forwarded` for a connection of `client`, to `host` where it called a Service.
pub fn forwarded(client: SocketAddr, host: Option<&str>) -> String {
    match host {
        Some(host) => format!("for=\"{client}\";host={host}"),
        None => format!("for=\"{client}\""),
    }
}

/// A new trace (W3C Trace Context), not sampled.
pub fn traceparent(trace: u128, parent: u64) -> String {
    // All zeroes mean none.
    format!("00-{:032x}-{:016x}-00", trace.max(1), parent.max(1))
}

/// Whether a text is a `traceparent` of the version that is spoken here.
pub fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            && part.bytes().any(|byte| byte != b'0')
    };
    let mut parts = text.split('-');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("00"), Some(trace), Some(parent), Some(flags), None) => {
            hex(trace, 32)
                && hex(parent, 16)
                && flags.len() == 2
                && flags.bytes().all(|b| b.is_ascii_hexdigit())
        }
        _ => false,
    }
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
        assert_eq!(baggage(&workload), "k8s.namespace.name=shop,k8s.pod.name=cart-1");
        workload.labels.insert("app".to_owned(), "cart".to_owned());
        workload.labels.insert("version".to_owned(), "v2".to_owned());
        let read = Baggage::parse(&baggage(&workload));
        let expected = Baggage {
            cluster: None,
            namespace: Some("shop".to_owned()),
            workload: Some("cart-1".to_owned()),
            service: Some("cart".to_owned()),
            version: Some("v2".to_owned()),
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn broken_baggage_is_left_out_and_the_rest_is_read() {
        let read = Baggage::parse("=,, k8s.namespace.name = a ;p=1,service.name=,x=y,k8s.namespace.name=b");
        assert_eq!(read, Baggage { namespace: Some("a".to_owned()), ..Baggage::default() });
        assert_eq!(Baggage::parse(&"k8s.pod.name=a,".repeat(1000)), Baggage::default());
    }

    #[test]
    fn forwarded_is_read_as_other_implementations_write_it() {
        let client: SocketAddr = "10.0.0.1:4000".parse().unwrap();
        let v6: SocketAddr = "[fd00::1]:4000".parse().unwrap();
        let table: &[(&str, Option<SocketAddr>, Option<&str>)] = &[
            ("for=\"10.0.0.1:4000\";host=cart.shop", Some(client), Some("cart.shop")),
            ("For=10.0.0.1:4000;Proto=http", Some(client), None),
            ("for=\"[fd00::1]:4000\"", Some(v6), None),
            ("host=a, for=\"10.0.0.1:4000\"", None, Some("a")),
            ("for=unknown;host=\"a;b,c\"", None, Some("a;b,c")),
            ("for=10.0.0.1", None, None),
            ("\"", None, None),
            ("", None, None),
        ];
        for (text, client, host) in table {
            let expected = Forwarded { client: *client, host: host.map(str::to_owned) };
            assert_eq!(Forwarded::parse(text), expected, "{text}");
        }
        let written = forwarded(v6, Some("cart.shop"));
        assert_eq!(
            Forwarded::parse(&written),
            Forwarded { client: Some(v6), host: Some("cart.shop".to_owned()) }
        );
    }

    #[test]
    fn a_trace_is_written_as_it_must_be() {
        assert_eq!(traceparent(0, 0).len(), 55);
        assert!(is_traceparent(&traceparent(0, 0)) && is_traceparent(&traceparent(u128::MAX, u64::MAX)));
        for text in ["", "00-0-0-00", "01-00000000000000000000000000000001-0000000000000001-00"] {
            assert!(!is_traceparent(text), "{text}");
        }
    }
}
