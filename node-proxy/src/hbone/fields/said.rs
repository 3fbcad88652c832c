//! What a CONNECT says besides where it goes, as far as it is of use to who reads the log. Pure.
//!
//! It is what the other end claims, but for the Service, which this end has to know as one that the pod answers for. It must
//! never reach what decides.

use std::rc::Rc;

use config::name::ServiceName;
use http::{request::Parts, uri::Authority};

use super::{Baggage, Forwarded};
use crate::hbone::authority;

/// What was said with a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The Service that was called.
    pub service: Option<ServiceName>,
    /// What the caller's proxy claims of the caller's workload.
    pub claimed: Baggage,
}

impl Said {
    /// What a head says; `None` where that is nothing. `answers` gives the Service of this name and namespace, where the pod
    /// answers for it at the port that the connection goes to.
    pub fn of(head: &Parts, answers: impl Fn(&str, &str) -> Option<ServiceName>) -> Option<Rc<Self>> {
        // A name in the authority is what led here.
        let named = head.uri.authority().map(Authority::host);
        let hosts = [named, Forwarded::of(&head.headers).host];
        let service = hosts.into_iter().flatten().find_map(|host| {
            let host = name(host)?;
            let (name, namespace) = authority::service(&host)?;
            answers(name, namespace)
        });
        let said = Self { service, claimed: Baggage::of(&head.headers) };
        (said != Self::default()).then(|| Rc::new(said))
    }
}

/// A host without its port, in lower case. What is too long for a name is none.
fn name(host: &str) -> Option<String> {
    let name = host.split(':').next()?;
    (name.len() <= LONGEST_NAME).then(|| name.to_ascii_lowercase())
}

/// Bytes of a DNS name.
const LONGEST_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn cart() -> ServiceName {
        ServiceName::new("shop".try_into().unwrap(), "cart".try_into().unwrap())
    }

    /// Of a CONNECT to this target, with this `forwarded`, at a pod that answers for two Services.
    fn service(target: &str, forwarded: &str) -> Option<ServiceName> {
        let request = Request::connect(target).header("forwarded", forwarded).body(()).unwrap();
        let answers = |name: &str, namespace: &str| match (name, namespace) {
            ("cart", "shop") => Some(cart()),
            ("till", "shop") => {
                Some(ServiceName::new("shop".try_into().unwrap(), "till".try_into().unwrap()))
            }
            _ => None,
        };
        Said::of(&request.into_parts().0, answers)?.service.clone()
    }

    #[test]
    fn the_service_is_the_one_that_was_called_if_the_pod_answers_for_it() {
        for (target, forwarded) in [
            ("10.0.0.7:80", "for=\"10.0.0.1:4000\";host=cart.shop.svc.cluster.local"),
            ("10.0.0.7:80", "host=\"Cart.Shop.svc:8080\""),
            ("10.0.0.7:80", "host=cart.shop.svc"),
            ("cart.shop.svc.cluster.local:80", "for=\"10.0.0.1:4000\""),
            ("cart.shop.svc.mesh.example:80", "host=till.shop.svc"),
        ] {
            assert_eq!(service(target, forwarded), Some(cart()), "{target} {forwarded}");
        }
        let long = format!("host=cart.shop.svc.{}", "a".repeat(250));
        for forwarded in [
            "for=\"10.0.0.1:4000\"",
            "host=ledger.bank.svc.cluster.local",
            "host=cart.shop",
            "host=cart.bank.svc",
            "host=",
            "host=:80",
            "host=10.0.0.7",
            &long,
        ] {
            assert_eq!(service("10.0.0.7:80", forwarded), None, "{forwarded}");
        }
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_said() {
        let said = |fields: &[(&str, &str)]| {
            let mut request = Request::connect("10.0.0.7:80");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            Said::of(&request.body(()).unwrap().into_parts().0, |_, _| None)
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[("baggage", "a=b,service.name="), ("forwarded", "for=x")]), None);
        let claimed = Baggage::parse("service.name=cart");
        let expected = Said { service: None, claimed };
        assert_eq!(said(&[("baggage", "service.name=cart")]), Some(Rc::new(expected)));
    }
}
