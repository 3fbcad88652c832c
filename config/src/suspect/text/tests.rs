//! What is found in text of which no tree can be made.

use super::*;
use crate::object::Kind;

/// What is found, as `KIND in NAMESPACES`, with `?` for a kind and a namespace that cannot be read.
fn found(text: &str) -> Vec<String> {
    let is_cut = !text.ends_with('\n');
    let unread = Unread { lines_before: 0, text: text.to_owned(), is_cut };
    let show = |suspect: Option<Suspect>| {
        let Some(Suspect { kind, is_sure, place, .. }) = suspect else { return "nothing".to_owned() };
        let mut names: Vec<&str> = place.namespaces.iter().map(Namespace::as_str).collect();
        names.extend(place.elsewhere.then_some("?"));
        let kind = if kind == Kind::AuthorizationPolicy { "Auth" } else { kind.as_str() };
        format!("{kind}{} in {}", if is_sure { "" } else { "?" }, names.join(","))
    };
    in_text(&unread).into_iter().map(show).collect()
}

#[test]
fn signs_of_policies_are_found_in_whatever_is_left_of_a_text() {
    for (text, expected) in [
        ("kind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop\nspec: [\n", "Auth in shop"),
        ("{\"kind\":\"AuthorizationPolicy\",\"metadata\":{\"namespace\":\"shop\"},", "Auth in shop"),
        ("kind:AuthorizationPolicy\nnamespace:shop\n", "Auth in shop"),
        ("apiVersion: security.istio.io/v1\nkind: [\nnamespce: 'shop'\n", "Auth? in shop"),
        ("kind: AuthorizatonPolicy\n", "Auth in ?"),
        ("kind: AuthorizationPolicyList\nnamespace: shop\nnamespace: bank\n", "Auth in bank,shop"),
        ("kind: AuthorizationPolicy\nnamespace: [\n", "Auth in ?"),
        ("kind: AuthorizationPolicy\nnamespace: Shop_1 \n", "Auth in ?"),
        ("kind: AuthorizationPolicy\nnamespace: sh\u{f6}p\n", "Auth in ?"),
        ("kind: AuthorizationPolicy\nnamespace: sh[p\n", "Auth in ?"),
        ("apiVersion: security.istioAuthorizationPolicy\nnamespace: shop\n", "Auth in shop"),
        ("kind: AuthorizationPolicy\nmetadata:\n  namespace: sh", "Auth in ?"),
        ("knd: AuthorizationPolicy\nnamespace: shop\n", "Auth in shop"),
        ("kind: AuthorizationPolicy\nspec: {from: {namespaces: [bank]}}\nnamespace: shop\n", "Auth in shop"),
        ("kind: Service\n--\nkind: AuthorizationPolicy\nnamespace: shop\n", "Auth in shop"),
        ("kind: PeerAuthentication\nnamespace: shop\n", "PeerAuthentication in shop"),
        // However it is written.
        ("kind: !!str &k AuthorizationPolicy\nnamespace: !!str &n 'shop'\n", "Auth in shop"),
        ("kind: >-\n  AuthorizationPolicy\nnamespace: >-\n  shop\nspec: [\n", "Auth in shop,?"),
        ("kind: [AuthorizationPolicy]\nnamespace: [shop]\nspec: [\n", "Auth in shop,?"),
        ("kind: AuthorizationPolicy\nnamespace:\nspec: [\n", "Auth in ?"),
        ("# one line\rkind: AuthorizationPolicy\rnamespace: shop\r", "Auth in shop"),
        ("apiVersion: security.istio.io", "Auth? in ?"),
        ("apiVersion: secur", "Auth? in ?"),
        ("apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nnamespace: shop\n", "NetworkPolicy in shop"),
        // What says that it is something else is nothing of the kind.
        ("kind: Service\nnamespace: shop\n{", ""),
        ("# kind: AuthorizationPolicy\nkind: Service\n", ""),
        ("apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n", ""),
        ("apiVersion: policy.linkerd.io/v1\nkind: AuthorizationPolicy\n", ""),
        (
            "kind: ClusterRole\nrules: [{apiGroups: [security.istio.io], resources: [authorizationpolicies]}]\n",
            "",
        ),
        ("{", "nothing"),
        ("kind: [", "nothing"),
    ] {
        assert_eq!(found(text).join("; "), expected, "{text}");
    }
    let two = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\napiVersion: security.istio.io/v1\nkind: Polcy\n";
    assert_eq!(found(two), ["Auth? in ?"]);
    let both = "kind: PeerAuthentication\nkind: AuthorizationPolicy\nnamespace: shop\n---\n{\n";
    assert_eq!(found(both), ["Auth in shop", "PeerAuthentication in shop", "nothing"]);
}

#[test]
fn a_suspect_knows_its_line() {
    let unread =
        Unread { lines_before: 4, text: "a: [\n  kind: AuthorizationPolicy\n".to_owned(), is_cut: false };
    let at = in_text(&unread)[0].as_ref().unwrap().at;
    assert_eq!((at.line, at.column), (6, 3));
}
