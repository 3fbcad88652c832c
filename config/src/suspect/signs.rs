//! Kinds and API versions as they were written, and which security objects they can mean.

use crate::{object::Kind, schema::similar};

/// What an unreadable part says of its kind.
#[derive(Debug, Default)]
pub(super) struct Signs<'a> {
    pub(super) kinds: Vec<&'a str>,
    pub(super) versions: Vec<&'a str>,
}

/// API groups that have security objects; the strictest of them; and all kinds of the group that are not ours.
const GROUPS: [(&str, Kind, &[&str]); 2] = [
    ("security.istio.io", Kind::AuthorizationPolicy, &["RequestAuthentication"]),
    ("networking.k8s.io", Kind::NetworkPolicy, &["IPAddress", "Ingress", "IngressClass", "ServiceCIDR"]),
];

/// The API group of Tenants.
const TENANTS: &str = "canopy.mesh";

/// Fields of metadata that name kinds of other objects, or what anybody likes.
pub(super) const OF_OTHERS: [&str; 4] = ["annotations", "labels", "managedFields", "ownerReferences"];

impl<'a> Signs<'a> {
    /// Takes over what stands where a version is written; a kind may have run into it.
    pub(super) fn version(&mut self, text: &'a str) {
        self.versions.push(text);
        self.kinds.extend(security_word(text));
    }

    /// The security objects that are meant, each with whether its kind is written.
    pub(super) fn meant(&self) -> Vec<(Kind, bool)> {
        if !self.versions.is_empty() && self.versions.iter().all(|version| is_foreign(version)) {
            return Vec::new();
        }
        let is_there = |kind: &Kind| self.kinds.iter().any(|written| security_kind(written) == Some(*kind));
        let mut meant: Vec<(Kind, bool)> =
            Kind::SECURITY.into_iter().filter(is_there).map(|kind| (kind, true)).collect();
        for (group, strictest, others) in GROUPS {
            let of_group = self.versions.iter().filter(|version| is_of(version, group)).count();
            // A kind in the wrong group is told as well, where its own is not there.
            let is_told =
                |written: &&&str| match security_kind(written).map(|kind| group_of(kind.api_versions()[0])) {
                    Some(own) => own == group || !self.versions.iter().any(|version| is_of(version, own)),
                    None => nearest_kind(written, others.iter().copied()).is_some(),
                };
            let told = self.kinds.iter().filter(is_told).count();
            if of_group > told && !meant.iter().any(|(kind, _)| *kind == strictest) {
                meant.push((strictest, false));
            }
        }
        meant.extend(self.tenant().map(|is_sure| (Kind::Tenant, is_sure)));
        meant
    }

    /// Whether a Tenant may be meant, and whether its kind is written. Others have Tenants in groups of their own.
    fn tenant(&self) -> Option<bool> {
        let name = || std::iter::once(Kind::Tenant.as_str());
        let is_named = self.kinds.iter().any(|kind| nearest_kind(kind, name()).is_some());
        let of_group = self.versions.iter().any(|version| is_of(version, TENANTS));
        let says_else = |kind: &&str| nearest_kind(kind, name()).is_none();
        let has_lost_group = || {
            self.versions.iter().all(|version| !version.contains('/')) && !self.kinds.iter().any(says_else)
        };
        (of_group || is_named && has_lost_group()).then_some(is_named)
    }
}

/// Whether a kind of a group that is not its own can only be meant for a security object that is read here.
pub(crate) fn is_meant(kind: &str, api_version: &str) -> Option<Kind> {
    Signs { kinds: vec![kind], versions: vec![api_version] }.meant().first().map(|(kind, _)| *kind)
}

/// The security kind that a word can mean, as one object or as a list of them.
pub(super) fn security_kind(written: &str) -> Option<Kind> {
    let name = nearest_kind(written, Kind::SECURITY.into_iter().map(Kind::as_str))?;
    Kind::SECURITY.into_iter().find(|kind| kind.as_str() == name)
}

/// The security kind whose name a word is, or holds, wherever it stands.
pub(super) fn security_word(word: &str) -> Option<&'static str> {
    let single = strip_list(word);
    let names = Kind::SECURITY.into_iter().map(Kind::as_str);
    names.into_iter().find(|name| name.eq_ignore_ascii_case(single) || word.contains(name))
}

/// Whether a word, wherever it stands, is a version of a group that has nothing but security objects, or Tenants. Labels and
/// annotations have the name of the latter before their slash.
pub(super) fn is_security_version(word: &str) -> bool {
    let is_version = |version: &str| {
        version.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    word.split_once('/').is_some_and(|(group, version)| {
        group.eq_ignore_ascii_case(GROUPS[0].0) || group.eq_ignore_ascii_case(TENANTS) && is_version(version)
    })
}

/// Whether a key is this one, or a slip of it.
pub(crate) fn is_near(written: &str, wanted: &str) -> bool {
    similar::nearest(written, std::iter::once(wanted)).is_some()
}

/// Whether a key names a namespace, or did before something was put before it. Sources of policies have lists `namespaces`.
pub(super) fn is_namespace_key(written: &str) -> bool {
    let ends_so = || written.ends_with("namespace") && !written.contains(['.', '/', '-']);
    written != "namespaces" && (is_near(written, "namespace") || ends_so())
}

fn nearest_kind<'a>(written: &str, kinds: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    similar::nearest(written, kinds.clone()).or_else(|| similar::nearest(strip_list(written), kinds))
}

fn strip_list(written: &str) -> &str {
    let cut = written.len().saturating_sub("List".len());
    match written.get(cut..) {
        Some(end) if end.eq_ignore_ascii_case("List") => &written[..cut],
        _ => written,
    }
}

/// Somebody else's API group. Only those that are known to have kinds of these names: any other may be ours, misspelt.
fn is_foreign(api_version: &str) -> bool {
    let group = group_of(api_version);
    let is_of =
        |owner: &&str| group == *owner || group.strip_suffix(*owner).is_some_and(|rest| rest.ends_with('.'));
    FOREIGN.iter().any(is_of)
}

/// Whose AuthorizationPolicy or NetworkPolicy is another thing.
const FOREIGN: [&str; 4] = ["antrea.io", "cilium.io", "linkerd.io", "projectcalico.org"];

/// Whether a version is of a group, misspelt or cut off.
fn is_of(api_version: &str, group: &str) -> bool {
    let is_begun =
        || api_version.len() >= BEGUN && !api_version.contains('/') && group.starts_with(api_version);
    is_near(group_of(api_version), group) || is_begun()
}

/// Bytes of the name of a group that no other group begins with.
const BEGUN: usize = 4;

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}
