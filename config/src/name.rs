//! Names that have been checked once: namespaces, objects, tenants, and the pairs that qualify them.
//!
//! A name of this module is always valid by Kubernetes' rules (RFC 1123). It must never be built from
//! unchecked input other than through `TryFrom`.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Longer than Kubernetes allows.
    #[error("has {actual} characters, at most {limit} are allowed")]
    TooLong {
        /// Characters given.
        actual: usize,
        /// Characters allowed.
        limit: usize,
    },
    /// A character outside the RFC 1123 set, or `-`/`.` at an end.
    #[error("{text:?} must consist of lower case letters, digits and '-'{dots}, and start and end with a letter or digit", dots = if *dots { " or '.'" } else { "" })]
    Characters {
        /// The text as given.
        text: String,
        /// Whether dots would have been allowed.
        dots: bool,
    },
}

/// RFC 1123 label: at most 63 characters (Kubernetes API conventions, "Object Names and IDs").
const LABEL_LIMIT: usize = 63;
/// RFC 1123 subdomain: at most 253 characters (same source).
const SUBDOMAIN_LIMIT: usize = 253;

fn check(text: &str, limit: usize, dots: bool) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > limit {
        return Err(NameError::TooLong { actual: text.len(), limit });
    }
    let label_is_valid = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let valid = if dots { text.split('.').all(label_is_valid) } else { label_is_valid(text) };
    if valid { Ok(()) } else { Err(NameError::Characters { text: text.to_owned(), dots }) }
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $type:ident, $limit:expr, $dots:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $type {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                check(text, $limit, $dots)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::try_from(text.as_str())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name!(
    /// The name of a Kubernetes Namespace (RFC 1123 label).
    Namespace, LABEL_LIMIT, false
);
checked_name!(
    /// The name of a namespaced object (RFC 1123 subdomain).
    Name, SUBDOMAIN_LIMIT, true
);
checked_name!(
    /// The name of a ServiceAccount (RFC 1123 subdomain).
    ServiceAccount, SUBDOMAIN_LIMIT, true
);
checked_name!(
    /// The name of a node (RFC 1123 subdomain).
    NodeName, SUBDOMAIN_LIMIT, true
);
checked_name!(
    /// The name of a host outside of the mesh, in lower case and without a dot at its end (RFC 1123 subdomain).
    HostName, SUBDOMAIN_LIMIT, true
);
checked_name!(
    /// The DNS domain that the names of a cluster's Services end in (RFC 1123 subdomain).
    ClusterDomain, SUBDOMAIN_LIMIT, true
);
checked_name!(
    /// The name of a port, of a Service or of a container (RFC 1123 label).
    PortName, LABEL_LIMIT, false
);

/// The unit of ownership and budget: the name of a `Tenant` object, or of a namespace that no `Tenant` lists.
///
/// The two kinds never compare equal, so a `Tenant` called `shop` is not the namespace `shop`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantId {
    /// A cluster-scoped `Tenant` object.
    Tenant(Name),
    /// A namespace by itself.
    Namespace(Namespace),
}

impl TenantId {
    /// The bare name, without the kind: for thread names and the like, never as a key.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tenant(name) => name.as_str(),
            Self::Namespace(namespace) => namespace.as_str(),
        }
    }
}

/// A `Tenant` prints as its name, a namespace as `ns/NAME`; so labels of the two never meet.
impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(name) => write!(f, "{name}"),
            Self::Namespace(namespace) => write!(f, "ns/{namespace}"),
        }
    }
}

macro_rules! qualified_name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $type {
            /// The namespace that owns the object.
            pub namespace: Namespace,
            /// The object's name within it.
            pub name: Name,
        }

        impl $type {
            /// Pairs a namespace and a name.
            pub fn new(namespace: Namespace, name: Name) -> Self {
                Self { namespace, name }
            }
        }

        /// Prints as `NAMESPACE/NAME`.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }
    };
}

qualified_name!(
    /// A pod, by namespace and name.
    PodName
);
qualified_name!(
    /// A Service, by namespace and name.
    ServiceName
);
qualified_name!(
    /// A policy (AuthorizationPolicy, PeerAuthentication, NetworkPolicy), by namespace and name.
    PolicyName
);
qualified_name!(
    /// A ServiceEntry, by namespace and name.
    EntryName
);

/// A kind of route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// HTTPRoute.
    Http,
    /// GRPCRoute.
    Grpc,
}

impl RouteKind {
    /// The kind as manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A route, by namespace, name and kind: an HTTPRoute and a GRPCRoute of one name are two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteName {
    /// The namespace that owns the route.
    pub namespace: Namespace,
    /// The route's name within it, among those of its kind.
    pub name: Name,
    /// What it is.
    pub kind: RouteKind,
}

impl RouteName {
    /// Names a route of a kind.
    pub fn new(kind: RouteKind, namespace: Namespace, name: Name) -> Self {
        Self { namespace, name, kind }
    }
}

/// Prints as `NAMESPACE/NAME`; the kind has to be said beside it where it is not known.
impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Kubernetes' own default.
impl Default for ClusterDomain {
    fn default() -> Self {
        Self(Arc::from("cluster.local"))
    }
}

/// The namespace whose policies are for the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootNamespace(pub Namespace);

/// Istio's own default.
impl Default for RootNamespace {
    fn default() -> Self {
        Self(Namespace(Arc::from("istio-system")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_refused_when_it_has_a_dot_or_an_upper_case_letter() {
        for text in ["a.b", "Shop", "-shop", "shop-", "sh op", "shöp"] {
            assert!(matches!(Namespace::try_from(text), Err(NameError::Characters { .. })), "{text}");
        }
        assert_eq!(Namespace::try_from(""), Err(NameError::Empty));
        assert_eq!(
            Namespace::try_from("a".repeat(64)),
            Err(NameError::TooLong { actual: 64, limit: LABEL_LIMIT })
        );
    }

    #[test]
    fn object_name_takes_dots_but_no_empty_label() {
        assert!(Name::try_from("cart-v2.shop").is_ok());
        assert!(Name::try_from("cart..shop").is_err());
    }

    #[test]
    fn routes_of_one_name_and_two_kinds_never_meet() {
        let route = |kind| {
            RouteName::new(kind, Namespace::try_from("shop").unwrap(), Name::try_from("cart").unwrap())
        };
        let (http, grpc) = (route(RouteKind::Http), route(RouteKind::Grpc));
        assert_ne!(http, grpc);
        assert_eq!(http.to_string(), grpc.to_string());
        assert_ne!(http.kind.to_string(), grpc.kind.to_string());
    }

    #[test]
    fn tenant_and_namespace_of_one_name_never_meet() {
        let tenant = TenantId::Tenant(Name::try_from("shop").unwrap());
        let namespace = TenantId::Namespace(Namespace::try_from("shop").unwrap());
        assert_ne!(tenant, namespace);
        assert_ne!(tenant.to_string(), namespace.to_string());
    }
}
