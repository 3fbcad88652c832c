//! Filters of a rule or backend, and which of them may stand together.

use serde::{Deserialize, Serialize};

use super::{Context, backends, backends::ReferenceDraft, header_edit, matches};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::{Filter, PathEdit, Redirect, Rewrite},
    name::{RouteKind, RouteName},
};

/// A filter; a mirror's target has not been looked up yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum FilterDraft {
    Ready(Filter),
    Mirror(MirrorDraft),
}

/// A mirror without its target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MirrorDraft {
    pub(crate) reference: ReferenceDraft,
    pub(crate) numerator: u32,
    pub(crate) denominator: u32,
}

/// The filter types of a kind of route, and the field that each has its settings in.
fn types(kind: RouteKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        RouteKind::Http => &[
            ("RequestHeaderModifier", "requestHeaderModifier"),
            ("ResponseHeaderModifier", "responseHeaderModifier"),
            ("RequestMirror", "requestMirror"),
            ("RequestRedirect", "requestRedirect"),
            ("URLRewrite", "urlRewrite"),
            ("ExtensionRef", "extensionRef"),
            ("CORS", "cors"),
            ("ExternalAuth", "externalAuth"),
        ],
        RouteKind::Grpc => &[
            ("RequestHeaderModifier", "requestHeaderModifier"),
            ("ResponseHeaderModifier", "responseHeaderModifier"),
            ("RequestMirror", "requestMirror"),
            ("ExtensionRef", "extensionRef"),
        ],
    }
}

/// The filters of a rule or of a backend; `None` where one of them cannot be applied, which is reported: what it would have been applied to
/// must be answered with an error (Gateway API, HTTPRouteFilter and GRPCRouteFilter).
pub(in crate::lower) fn lower(
    context: &mut Context<'_>,
    parent: &Node,
    route: &RouteName,
    prefix_only: bool,
) -> Option<Vec<FilterDraft>> {
    let mut seen: Vec<&str> = Vec::new();
    let mut filters = Vec::new();
    for node in parent.items_of("filters") {
        let Some(type_node) = node.get("type") else { continue };
        let kind = type_node.text().unwrap_or_default();
        if seen.contains(&kind) && kind != "RequestMirror" && kind != "ExtensionRef" {
            context.reject(type_node, Reason::Duplicate, format!("{kind} is there twice: merge the two"));
        }
        let other = match kind {
            "URLRewrite" => "RequestRedirect",
            "RequestRedirect" => "URLRewrite",
            _ => "",
        };
        if seen.contains(&other) {
            context.invalid(type_node, format!("{kind} and {other} cannot stand together: remove one"));
        }
        seen.push(kind);
        filters.push(filter(context, node, type_node, route, prefix_only));
    }
    filters.into_iter().collect()
}

fn filter(
    context: &mut Context<'_>,
    node: &Node,
    type_node: &Node,
    route: &RouteName,
    prefix_only: bool,
) -> Option<FilterDraft> {
    let kind = type_node.text().unwrap_or_default();
    let settings = settings(context, node, type_node, types(route.kind))?;
    let ready = |filter| Some(FilterDraft::Ready(filter));
    match kind {
        "RequestHeaderModifier" => ready(Filter::RequestHeaders(header_edit::lower(context, settings))),
        "ResponseHeaderModifier" => ready(Filter::ResponseHeaders(header_edit::lower(context, settings))),
        "RequestRedirect" => ready(Filter::Redirect(redirect(context, settings, prefix_only)?)),
        "URLRewrite" => ready(Filter::Rewrite(rewrite(context, settings, prefix_only)?)),
        "RequestMirror" => mirror(context, settings, route).map(FilterDraft::Mirror),
        _ => {
            let message = format!(
                "{kind} is not supported, and a filter is never skipped: requests that it is for are answered {} until this filter \
                 is removed",
                super::failure(route.kind)
            );
            context.note(Severity::Warning, Reason::NotObeyed, type_node, message);
            None
        }
    }
}

/// The settings that belong to the filter's type; others must not be there.
fn settings<'a>(
    context: &mut Context<'_>,
    node: &'a Node,
    type_node: &Node,
    types: &[(&str, &str)],
) -> Option<&'a Node> {
    let kind = type_node.text().unwrap_or_default();
    let Some((_, wanted)) = types.iter().find(|(name, _)| *name == kind) else {
        let names: Vec<&str> = types.iter().map(|(name, _)| *name).collect();
        context
            .invalid(type_node, format!("must be one of {}, not {}", names.join(", "), type_node.describe()));
        return None;
    };
    for (_, field) in types.iter().filter(|(_, field)| field != wanted) {
        if let Some(stray) = node.get(field) {
            context.invalid(stray, format!("does not belong to a filter of type {kind}: remove it"));
        }
    }
    let settings = node.get(wanted);
    if settings.is_none() {
        context.missing(node, wanted, format!("required by type {kind}"));
    }
    settings
}

fn redirect(context: &mut Context<'_>, node: &Node, prefix_only: bool) -> Option<Redirect> {
    let scheme = node.get("scheme");
    if let Some(node) = scheme.filter(|node| !matches!(node.text(), Some("http" | "https"))) {
        context.invalid(node, format!("must be http or https, not {}", node.describe()));
    }
    let status = match node.get("statusCode") {
        Some(node) => status(context, node)?,
        None => 302,
    };
    let port = match node.get("port") {
        Some(node) => Some(context.port(node)?),
        None => None,
    };
    Some(Redirect {
        scheme: scheme.and_then(Node::text).map(str::to_owned),
        hostname: hostname(context, node),
        port,
        path: path_edit(context, node, prefix_only),
        status,
    })
}

fn status(context: &mut Context<'_>, node: &Node) -> Option<u16> {
    let status = node.int().filter(|status| [301, 302, 303, 307, 308].contains(status));
    if status.is_none() {
        context.invalid(node, format!("must be 301, 302, 303, 307 or 308, not {}", node.describe()));
    }
    u16::try_from(status?).ok()
}

fn rewrite(context: &mut Context<'_>, node: &Node, prefix_only: bool) -> Option<Rewrite> {
    Some(Rewrite { hostname: hostname(context, node), path: path_edit(context, node, prefix_only) })
}

/// A host name without wildcard; not an address (Gateway API, PreciseHostname).
fn hostname(context: &mut Context<'_>, parent: &Node) -> Option<String> {
    let node = parent.get("hostname")?;
    let text = node.text().unwrap_or_default();
    if text.parse::<std::net::IpAddr>().is_ok() {
        context.invalid(node, "must be a host name, not an address");
        return None;
    }
    context.name::<crate::name::Name>(node).map(String::from)
}

fn path_edit(context: &mut Context<'_>, parent: &Node, prefix_only: bool) -> Option<PathEdit> {
    let node = parent.get("path")?;
    let kind = node.get("type")?;
    let (wanted, stray) = match kind.text() {
        Some("ReplaceFullPath") => ("replaceFullPath", "replacePrefixMatch"),
        Some("ReplacePrefixMatch") => ("replacePrefixMatch", "replaceFullPath"),
        _ => {
            context.invalid(
                kind,
                format!("must be ReplaceFullPath or ReplacePrefixMatch, not {}", kind.describe()),
            );
            return None;
        }
    };
    if let Some(stray) = node.get(stray) {
        context.invalid(
            stray,
            format!("does not belong to type {}: remove it", kind.text().unwrap_or_default()),
        );
    }
    let Some(value) = node.get(wanted) else {
        context.missing(node, wanted, "required by the type");
        return None;
    };
    let text = value.text().unwrap_or_default();
    if wanted == "replacePrefixMatch" && !prefix_only {
        context.invalid(kind, "ReplacePrefixMatch needs exactly one match in the rule, of type PathPrefix");
        return None;
    }
    // An empty prefix replacement strips the prefix.
    if !text.is_empty() {
        matches::absolute(context, value, text)?;
    }
    let text = text.to_owned();
    Some(if wanted == "replaceFullPath" { PathEdit::Full(text) } else { PathEdit::Prefix(text) })
}

fn mirror(context: &mut Context<'_>, node: &Node, route: &RouteName) -> Option<MirrorDraft> {
    let reference = backends::reference(context, node.get("backendRef")?, route)?;
    let (numerator, denominator) = match (node.get("percent"), node.get("fraction")) {
        (Some(percent), Some(_)) => {
            context.invalid(percent, "percent and fraction cannot stand together: remove one");
            return None;
        }
        (Some(percent), None) => (share(context, percent, 0..=100)?, 100),
        (None, Some(fraction)) => self::fraction(context, fraction)?,
        (None, None) => (1, 1),
    };
    Some(MirrorDraft { reference, numerator, denominator })
}

fn fraction(context: &mut Context<'_>, node: &Node) -> Option<(u32, u32)> {
    let denominator = match node.get("denominator") {
        Some(node) => share(context, node, 1..=i64::from(i32::MAX))?,
        None => 100,
    };
    let numerator = share(context, node.get("numerator")?, 0..=i64::from(denominator))?;
    Some((numerator, denominator))
}

fn share(context: &mut Context<'_>, node: &Node, range: std::ops::RangeInclusive<i64>) -> Option<u32> {
    let number = node.int().filter(|number| range.contains(number));
    if number.is_none() {
        let message = format!("must be from {} to {}, not {}", range.start(), range.end(), node.describe());
        context.invalid(node, message);
    }
    u32::try_from(number?).ok()
}

/// Whether a rule has one match, on a path prefix, so that "the prefix that matched" means something.
pub(super) fn has_one_prefix_match(rule: &Node) -> bool {
    match rule.items_of("matches") {
        // No matches means prefix `/`, and so does a match without a path.
        [] => true,
        [only] => only.at_path(&["path", "type"]).is_none_or(|kind| kind.text() == Some("PathPrefix")),
        _ => false,
    }
}

/// A redirect answers by itself: backends beside it would never be asked.
pub(super) fn check_redirect_alone(context: &mut Context<'_>, rule: &Node) {
    let redirects =
        rule.items_of("filters").iter().any(|filter| filter.text_of("type") == Some("RequestRedirect"));
    if let Some(node) = rule.get("backendRefs").filter(|node| redirects && !node.items().is_empty()) {
        context.invalid(node, "a rule with a RequestRedirect filter has no backends: remove one of the two");
    }
}

/// What has come to a backend is for it to answer: it cannot be redirected any more, and must not be served as if nobody had said so.
pub(super) fn check_no_redirect(context: &mut Context<'_>, backend: &Node) {
    let types = backend.items_of("filters").iter().filter_map(|filter| filter.get("type"));
    for node in types.filter(|node| node.text() == Some("RequestRedirect")) {
        let message = "RequestRedirect is not supported in a backend's filters: give the rule this filter, and no backends";
        context.reject(node, Reason::NotObeyed, message);
    }
}
