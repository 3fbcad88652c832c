//! Policies that cannot be, and what of them is not enforced.

use config::{
    finding::{Reason, Severity},
    store::Outcome,
};

use super::{Case, apply, check};

pub(super) const AUTHORIZATION: &str =
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n";
const PEER: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec:\n";
const NETWORK: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n";
const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec:\n";

/// A case of one line: what is wrong is on line 5.
#[expect(clippy::too_many_arguments, reason = "a row of a table")]
pub(super) const fn case(
    name: &'static str,
    manifest: &'static str,
    column: u32,
    field: &'static str,
    reason: Reason,
    says: &'static str,
) -> Case {
    Case { name, manifest, at: (5, column), field, reason, says }
}

#[test]
fn authorization_policies_are_rejected_where_they_are_wrong() {
    use Reason::{InvalidValue, MissingField, NotPermitted, UnknownField, WrongType};
    check(
        AUTHORIZATION,
        &[
            case("action", "  action: PERMIT\n", 11, "spec.action", InvalidValue, "ALLOW, DENY"),
            case(
                "typo",
                "  rules: [{form: []}]\n",
                12,
                "spec.rules[0].form",
                UnknownField,
                "did you mean from?",
            ),
            case(
                "no source",
                "  rules: [{from: []}]\n",
                18,
                "spec.rules[0].from",
                InvalidValue,
                "empty list",
            ),
            case(
                "empty source",
                "  rules: [{from: [{source: {}}]}]\n",
                28,
                "spec.rules[0].from[0].source",
                InvalidValue,
                "all or none",
            ),
            case(
                "port",
                "  rules: [{to: [{operation: {ports: ['http']}}]}]\n",
                38,
                "spec.rules[0].to[0].operation.ports[0]",
                InvalidValue,
                "must be a port",
            ),
            case(
                "number",
                "  rules: [{to: [{operation: {ports: [80]}}]}]\n",
                38,
                "spec.rules[0].to[0].operation.ports[0]",
                WrongType,
                "in quotes",
            ),
            case(
                "attribute",
                "  rules: [{when: [{key: source.port, values: ['1']}]}]\n",
                25,
                "spec.rules[0].when[0].key",
                InvalidValue,
                "is not an attribute",
            ),
            case(
                "no values",
                "  rules: [{when: [{key: source.ip}]}]\n",
                19,
                "spec.rules[0].when[0].values",
                MissingField,
                "values or notValues",
            ),
            case(
                "other namespace",
                "  targetRefs: [{kind: Service, name: s, namespace: bank}]\n",
                52,
                "spec.targetRefs[0].namespace",
                NotPermitted,
                "own namespace",
            ),
        ],
    );
}

#[test]
fn peer_authentications_are_rejected_where_they_are_wrong() {
    use Reason::InvalidValue;
    check(
        PEER,
        &[
            case(
                "mode",
                "  mtls: {mode: STRIKT}\n",
                16,
                "spec.mtls.mode",
                InvalidValue,
                "STRICT, PERMISSIVE",
            ),
            case(
                "ports without a selector",
                "  portLevelMtls: {'80': {mode: STRICT}}\n",
                18,
                "spec.portLevelMtls",
                InvalidValue,
                "add selector.matchLabels",
            ),
            case(
                "one port written twice",
                "  {selector: {matchLabels: {a: b}}, portLevelMtls: {'80': {mode: STRICT}, '080': {mode: DISABLE}}}\n",
                82,
                "spec.portLevelMtls.080",
                InvalidValue,
                "digits alone",
            ),
            case(
                "a port with a sign",
                "  {selector: {matchLabels: {a: b}}, portLevelMtls: {'+80': {mode: DISABLE}}}\n",
                60,
                "spec.portLevelMtls.+80",
                InvalidValue,
                "digits alone",
            ),
        ],
    );
}

#[test]
fn network_policies_are_rejected_where_they_are_wrong() {
    use Reason::{InvalidValue, MissingField};
    check(
        NETWORK,
        &[
            case(
                "type",
                "  policyTypes: [In]\n",
                17,
                "spec.policyTypes[0]",
                InvalidValue,
                "Ingress or Egress",
            ),
            case(
                "nobody",
                "  ingress: [{from: [{}]}]\n",
                21,
                "spec.ingress[0].from[0]",
                InvalidValue,
                "says nobody",
            ),
            case(
                "range of a name",
                "  ingress: [{ports: [{port: web, endPort: 90}]}]\n",
                43,
                "spec.ingress[0].ports[0].endPort",
                InvalidValue,
                "begins with a number",
            ),
            case(
                "exception outside",
                "  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.0.2.0/24]}}]}]\n",
                59,
                "spec.ingress[0].from[0].ipBlock.except[0]",
                InvalidValue,
                "not a part of",
            ),
            case(
                "operator without values",
                "  podSelector: {matchExpressions: [{key: a, operator: In}]}\n",
                36,
                "spec.podSelector.matchExpressions[0].values",
                MissingField,
                "compare with values",
            ),
        ],
    );
}

#[test]
fn service_entries_are_rejected_where_they_are_wrong() {
    use Reason::{InvalidValue, MissingField};
    check(
        ENTRY,
        &[
            case("no ports", "  hosts: [a.example]\n", 3, "spec.ports", MissingField, "which ports"),
            case(
                "resolution",
                "  {hosts: [a.example], ports: [{number: 443}], resolution: ALWAYS}\n",
                60,
                "spec.resolution",
                InvalidValue,
                "NONE",
            ),
        ],
    );
}

fn found(outcome: &Outcome, severity: Severity) -> Vec<&str> {
    let found = outcome.findings.iter().filter(|finding| finding.severity == severity);
    found.map(|finding| finding.field.as_str()).collect()
}

#[test]
fn what_is_not_enforced_is_listed_by_its_field_and_the_rest_is_in_force() {
    let outcome = apply(&format!(
        "{AUTHORIZATION}  rules:\n  - from: [{{source: {{namespaces: [web], requestPrincipals: ['*']}}}}]\n    \
         to: [{{operation: {{ports: ['80'], paths: [/a]}}}}]\n    when: [{{key: 'request.headers[a]', values: [b]}}]\n"
    ));
    assert_eq!(
        found(&outcome, Severity::NotObeyed),
        [
            "spec.rules[0].from[0].source.requestPrincipals",
            "spec.rules[0].to[0].operation.paths",
            "spec.rules[0].when[0].key",
        ]
    );
    let policy = outcome.mesh.authorization.values().next().unwrap();
    let unenforceable = policy.rules[0].clauses.iter().flat_map(|clause| &clause.any);
    assert!(unenforceable.into_iter().all(|one| one.unenforceable), "{policy:?}");
    for (spec, field) in [
        ("{action: CUSTOM, provider: {name: x}, rules: [{}]}", "spec.action"),
        ("{action: AUDIT, rules: [{}]}", "spec.action"),
        ("{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: g}]}", "spec.targetRefs[0]"),
    ] {
        let outcome = apply(&AUTHORIZATION.replace("spec:\n", &format!("spec: {spec}\n")));
        assert!(found(&outcome, Severity::NotObeyed).contains(&field), "{spec}: {:#?}", outcome.findings);
    }
}

/// What of an entry is looked up, which endpoints it has, and which of its fields are not obeyed.
struct Row<'a> {
    spec: &'a str,
    hosts: &'a [&'a str],
    endpoints: &'a [&'a str],
    not_obeyed: &'a [&'a str],
}

fn row<'a>(
    spec: &'a str,
    hosts: &'a [&'a str],
    endpoints: &'a [&'a str],
    not_obeyed: &'a [&'a str],
) -> Row<'a> {
    Row { spec, hosts, endpoints, not_obeyed }
}

#[test]
fn service_entries_open_what_they_name_and_say_what_they_cannot() {
    let ports = "ports: [{number: 443, name: tls}]";
    let table = [
        row("hosts: [A.example.org.], resolution: DNS", &["a.example.org"], &[], &[]),
        row("hosts: [a.example.org, b.example.org]", &["a.example.org", "b.example.org"], &[], &[]),
        row("hosts: [a.example.org], resolution: NONE, addresses: [203.0.113.7]", &[], &[], &[]),
        row(
            "hosts: [a.example.org], resolution: DNS, addresses: [203.0.113.7]",
            &["a.example.org"],
            &[],
            &["spec.addresses"],
        ),
        row("hosts: ['*.example.org', '*']", &[], &[], &["spec.hosts[0]", "spec.hosts[1]"]),
        row(
            "hosts: [203.0.113.7, localhost, a_b.org]",
            &[],
            &[],
            &["spec.hosts[0]", "spec.hosts[1]", "spec.hosts[2]"],
        ),
        row(
            "hosts: [a.example.org], resolution: STATIC, endpoints: [{address: 203.0.113.7}, {address: 203.0.113.8, ports: {tls: 8443}}]",
            &[],
            &["203.0.113.7:443", "203.0.113.8:8443"],
            &[],
        ),
        row(
            "hosts: [a.example.org], resolution: DNS, endpoints: [{address: b.example.org}, {address: 203.0.113.7}]",
            &[],
            &["203.0.113.7:443"],
            &["spec.endpoints[0].address"],
        ),
        row(
            "hosts: [a.example.org], resolution: NONE, endpoints: [{address: 203.0.113.7, weight: 3}]",
            &["a.example.org"],
            &[],
            &["spec.endpoints", "spec.endpoints[0].weight"],
        ),
        row("hosts: [a.example.org], resolution: STATIC", &[], &[], &[]),
    ];
    for Row { spec, hosts, endpoints, not_obeyed } in table {
        let outcome = apply(&ENTRY.replace("spec:\n", &format!("spec: {{{spec}, {ports}}}\n")));
        let mut listed = found(&outcome, Severity::NotObeyed);
        listed.sort_unstable();
        assert_eq!(listed, not_obeyed, "{spec}: {:#?}", outcome.findings);
        let entry = outcome.mesh.service_entries.values().next();
        let named =
            entry.map(|entry| entry.hosts.iter().map(ToString::to_string).collect()).unwrap_or_default();
        let named: Vec<String> = named;
        assert_eq!(named, hosts, "{spec}");
        let ends: Vec<String> =
            entry.map(|entry| entry.endpoints.iter().map(ToString::to_string).collect()).unwrap_or_default();
        assert_eq!(ends, endpoints, "{spec}");
        let opens_nothing =
            outcome.findings.iter().any(|finding| finding.message.starts_with("opens nothing: give"));
        assert_eq!(opens_nothing, entry.is_none(), "{spec}: {:#?}", outcome.findings);
    }
}

#[test]
fn a_tenant_has_so_many_hosts_looked_up_and_is_told_of_those_beyond() {
    let entry = |name: &str, from: u32, to: u32| {
        let hosts: Vec<String> = (from..to).map(|number| format!("h{number}.example.org")).collect();
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
             spec: {{hosts: [{}], ports: [{{number: 443}}]}}\n",
            hosts.join(", ")
        )
    };
    let other = entry("e", 90, 91).replace("name: e", "name: e, namespace: other");
    let outcome = apply(&(entry("a", 0, 60) + &entry("b", 50, 66) + &entry("c", 70, 71) + &other));
    let beyond = |finding: &&config::finding::Finding| finding.reason == Reason::TooLarge;
    let fields: Vec<&str> = outcome.findings.iter().filter(beyond).map(|finding| &*finding.field).collect();
    // Those that are named twice count once.
    assert_eq!(fields, ["spec.hosts[14]", "spec.hosts[15]", "spec.hosts[0]"], "{:#?}", outcome.findings);
    let counted: Vec<usize> = outcome.mesh.service_entries.values().map(|entry| entry.hosts.len()).collect();
    assert_eq!(counted, [60, 14, 1], "an entry that opens nothing is none; another tenant has its own");
}

#[test]
fn a_policy_that_cannot_be_read_is_told_to_be_in_force_at_its_strictest() {
    for (head, spec) in [
        (AUTHORIZATION, "  action: PERMIT\n"),
        (PEER, "  mtls: {mode: STRIKT}\n"),
        (NETWORK, "  policyTypes: [In]\n"),
    ] {
        let outcome = apply(&format!("{head}{spec}"));
        let told = outcome.findings.iter().filter(|finding| finding.reason == Reason::StoodIn).count();
        assert_eq!(told, 1, "{:#?}", outcome.findings);
        let mesh = &outcome.mesh;
        let count = mesh.authorization.len() + mesh.peer_authentication.len() + mesh.network_policies.len();
        assert_eq!((count, outcome.accepted), (1, 0), "in force, and not accepted: {head}");
    }
}
