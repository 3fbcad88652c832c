//! Names of resources, and the names of the model that they stand for.
//!
//! Two resources must never be of one name of the model by the way it is written; where they are all the same, who puts the mesh
//! together decides between them.

use super::Bad;
use crate::{
    document::shorten,
    name::{
        ClusterDomain, EntryName, Name, Namespace, PodName, PolicyName, RouteKind, RouteName, ServiceName,
        TenantId,
    },
};

fn parse<T: for<'a> TryFrom<&'a str, Error = crate::name::NameError>>(
    what: &str,
    text: &str,
) -> Result<T, Bad> {
    T::try_from(text)
        .map_err(|error| Bad::invalid(format!("its name is no {what}: {}", shorten(&error.to_string()))))
}

fn no(what: &str) -> Bad {
    Bad::invalid(format!("its name is no {what}"))
}

/// `NAME`.
pub(super) fn namespace(text: &str) -> Result<Namespace, Bad> {
    parse("namespace", text)
}

/// `tenant/NAME` or `ns/NAME`.
pub(in crate::discovery) fn tenant(text: &str) -> Result<TenantId, Bad> {
    match text.split_once('/') {
        Some(("tenant", name)) => parse("Tenant", name).map(TenantId::Tenant),
        Some(("ns", name)) => parse("namespace", name).map(TenantId::Namespace),
        _ => Err(no("tenant/NAME or ns/NAME")),
    }
}

fn pair(text: &str) -> Result<(Namespace, &str), Bad> {
    let (namespace, name) = text.split_once('/').ok_or_else(|| no("NAMESPACE/NAME"))?;
    Ok((parse("NAMESPACE/NAME", namespace)?, name))
}

/// `NAMESPACE/NAME`. Istio makes up policies whose names no object can have (`istio_converted_static_strict`): these get one that
/// is like it, with a number that is of the whole, so that no other is taken for it.
pub(in crate::discovery) fn policy(text: &str) -> Result<PolicyName, Bad> {
    let (namespace, name) = pair(text)?;
    let made_up =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let own = match Name::try_from(name) {
        Ok(name) => name,
        Err(_) if made_up => alike(name)?,
        Err(_) => return Err(no("NAMESPACE/NAME")),
    };
    Ok(PolicyName::new(namespace, own))
}

/// A name that is like a text, and no other text's.
pub(super) fn alike(text: &str) -> Result<Name, Bad> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let stem: String = text.chars().map(plain).take(STEM).collect();
    // FNV-1a, 64 bits: the same wherever it is computed.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let stem = stem.trim_matches('-');
    let joined = if stem.is_empty() { format!("{hash:016x}") } else { format!("{stem}-{hash:016x}") };
    parse("name", &joined)
}

const STEM: usize = 200;

/// `NAMESPACE/NAME`.
pub(super) fn entry(text: &str) -> Result<EntryName, Bad> {
    let (namespace, name) = pair(text)?;
    Ok(EntryName::new(namespace, parse("NAMESPACE/NAME", name)?))
}

/// `KIND/NAMESPACE/NAME`.
pub(in crate::discovery) fn route(text: &str) -> Result<RouteName, Bad> {
    let (kind, rest) = text.split_once('/').ok_or_else(|| no("KIND/NAMESPACE/NAME"))?;
    let kind = [RouteKind::Http, RouteKind::Grpc].into_iter().find(|known| known.as_str() == kind);
    let (namespace, name) = pair(rest)?;
    Ok(RouteName::new(kind.ok_or_else(|| no("HTTPRoute or GRPCRoute"))?, namespace, parse("route", name)?))
}

/// `NAMESPACE/HOSTNAME`: a Service of this cluster by its name, anything else by its host name.
pub(in crate::discovery) fn service(text: &str, domain: &ClusterDomain) -> Result<ServiceName, Bad> {
    let (namespace, host) = pair(text)?;
    let end = format!(".{namespace}.svc.{domain}");
    let name = host.strip_suffix(&end).filter(|name| !name.contains('.')).unwrap_or(host);
    let name = parse("NAMESPACE/HOSTNAME", name)?;
    Ok(ServiceName::new(namespace, name))
}

/// `CLUSTER/GROUP/KIND/NAMESPACE/NAME[/SECTION]`, and whether it is a pod. What is no pod gets a name that no pod has by chance.
pub(in crate::discovery) fn workload(uid: &str) -> Result<(PodName, bool), Bad> {
    let shape = || no("CLUSTER/GROUP/KIND/NAMESPACE/NAME");
    let parts: Vec<&str> = uid.splitn(6, '/').collect();
    match parts.as_slice() {
        [_, "", "Pod", namespace, name] => {
            Ok((PodName::new(parse("uid of a pod", namespace)?, parse("uid of a pod", name)?), true))
        }
        [_, _, kind, namespace, name, section @ ..] => {
            let whole =
                section.iter().fold(format!("{kind}.{name}"), |whole, part| format!("{whole}.{part}"));
            Ok((PodName::new(parse("uid", namespace)?, alike(&whole)?), false))
        }
        _ => Err(shape()),
    }
}
