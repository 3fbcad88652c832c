//! The second table: what an owner tries that is not theirs to say. By `forum`, where the row names nobody else.
//!
//! A row may be tried in several ways, all of which come to the same.

use super::{
    Case, What,
    objects::{SLICE, entry, own, route, said, service, slice},
    page, parts,
    scene::{
        LABELS, NODE_ADDRESS, OUTSIDE, OWN_ADDRESS, ROOT, SOMEWHERE, Text, namespace, namespace_file, netns,
        object, pod, pod_object, tenant, tenant_file, vip,
    },
};

/// One way to try it.
#[derive(Debug)]
pub(crate) struct Attempt {
    of: &'static str,
    given: Vec<Text>,
    said: Vec<Text>,
    calls: Vec<What>,
}

/// A row: what the page calls it, and the ways in which it is tried.
pub(crate) type Row = (&'static str, fn() -> Vec<Attempt>);

pub(crate) const ROWS: [Row; 41] = [
    ("a Service with the cluster IP of another's", || vec![more(&vip("web", "bank"), "")]),
    ("a Service with the address of another's pod", || {
        vec![more(&pod("web", "bank"), ""), more(&pod("far", "bank"), "")]
    }),
    ("a Service with the address of a node", || vec![more(NODE_ADDRESS, "")]),
    ("a Service with an address that means whoever looks", || {
        ["127.0.0.1", "169.254.169.254", "224.0.0.1"].map(|address| more(address, "")).into()
    }),
    ("a Service with another's address as its external IP", || {
        let others = [vip("web", "bank"), pod("web", "bank"), OUTSIDE.to_owned()];
        let external = |address| format!(", externalIPs: [{address}]");
        others.map(|address| more(&vip("more", "forum"), &external(address)).about(own("forum"))).into()
    }),
    ("a Service with another's address as its load balancer's", || {
        let (own_vip, other) = (vip("more", "forum"), vip("web", "bank"));
        let asked = service(&own_vip, &format!(", type: LoadBalancer, loadBalancerIP: {other}"));
        let status = format!("\nstatus: {{loadBalancer: {{ingress: [{{ip: {other}}}]}}}}");
        let has = asked.clone() + &status;
        [asked, has]
            .map(|body| {
                attempt("forum", &object("Service", "forum", "name: more", &body)).about(own("forum"))
            })
            .into()
    }),
    ("a Service with an address that another's EndpointSlice names", || {
        let given = ("slices.yaml".to_owned(), object("EndpointSlice", "bank", SLICE, &slice(&[SOMEWHERE])));
        vec![Attempt { given: vec![given], ..more(SOMEWHERE, "").about(vec![What::Outside]) }]
    }),
    (
        "an EndpointSlice that names loopback, link-local, multicast, broadcast or no address in particular",
        || {
            let v4 = ["127.0.0.1", "127.9.9.9", "169.254.169.254", "224.0.0.1", "255.255.255.255", "0.0.0.0"];
            v4.into_iter()
                .chain(["::1", "fe80::1", "ff02::1", "::"])
                .map(|address| named(&[address]))
                .collect()
        },
    ),
    ("an EndpointSlice that names an IPv4 address as IPv6", || vec![named(&["::ffff:127.0.0.1"])]),
    ("an EndpointSlice that names a node", || {
        [NODE_ADDRESS, OWN_ADDRESS].map(|address| named(&[address])).into()
    }),
    ("an EndpointSlice that names a cluster IP", || {
        ["bank", "forum"].map(|of| named(&[&vip("web", of)])).into()
    }),
    ("an EndpointSlice that names a pod of another namespace", || {
        let others = ["web", "far"].map(|name| named(&[&pod("web", "forum"), &pod(name, "bank")]));
        // Also where both are of one tenant.
        let own = sliced("shop", &[&pod("web", "shop-too")]);
        others.into_iter().chain([own]).collect()
    }),
    ("an HTTPRoute aimed at another's Service that has a route of its own", || {
        vec![
            routed(&route("bank", "forum"))
                .given("bank", &route("bank", "bank"))
                .about(vec![What::Calls("bank")]),
        ]
    }),
    ("an HTTPRoute that leads back to its own Service, and copies to it", || {
        vec![routed(&route("forum", "forum")).about(own("forum"))]
    }),
    ("two HTTPRoutes that lead to each other's Service", || {
        vec![routed(&route("forum", "bank")).given("bank", &route("bank", "forum")).about(own("forum"))]
    }),
    ("an HTTPRoute with an ExternalName Service as its parent", || {
        let parent = "spec: {parentRefs: [{group: '', kind: Service, name: alias}]}";
        vec![attempt("forum", &(alias() + &object("HTTPRoute", "forum", "name: web", parent)))]
    }),
    ("an HTTPRoute with an ExternalName Service as its backend", || {
        let to =
            route("forum", "forum").replacen("backendRefs: [{name: web", "backendRefs: [{name: alias", 1);
        vec![
            attempt("forum", &(alias() + &object("HTTPRoute", "forum", "name: web", &to)))
                .about(own("forum")),
        ]
    }),
    ("an HTTPRoute with a backend that is no Service", || {
        let to = |kind: &str| {
            let backend = format!("backendRefs: [{{group: '', kind: {kind}, name: web");
            routed(&route("forum", "bank").replacen("backendRefs: [{name: web", &backend, 1))
                .about(own("forum"))
        };
        ["Secret", "ConfigMap", "ServiceImport"].map(to).into()
    }),
    ("an AuthorizationPolicy whose target is another's", || {
        let target = "{group: '', kind: Service, name: web, namespace: bank}";
        let spec = |field: &str| format!("spec: {{{field}, action: ALLOW, rules: [{{}}]}}");
        let fields = [format!("targetRefs: [{target}]"), format!("targetRef: {target}")];
        let policy =
            |spec: String| attempt("forum", &object("AuthorizationPolicy", "forum", "name: web", &spec));
        fields.map(|field| policy(spec(&field))).into()
    }),
    ("an AuthorizationPolicy whose target is not there", || {
        let spec = "spec: {targetRefs: [{group: '', kind: Service, name: none}], action: DENY, rules: [{}]}";
        vec![attempt("forum", &object("AuthorizationPolicy", "forum", "name: web", spec))]
    }),
    ("more objects than its Tenant's budget has room for", || {
        // As many as all that is there, so that room which others took from would be gone.
        let few = tenant("forum", "forum", "egress: mesh, budget: {objects: 7}");
        let entries = (1..=7).map(|number| {
            let name = format!("name: web-{number}");
            object("ServiceEntry", "forum", &name, &entry(""))
        });
        let text = entries.collect::<String>();
        vec![
            Attempt { given: vec![(tenant_file("forum"), few)], ..attempt("forum", &text) }
                .about(vec![What::Outside]),
        ]
    }),
    ("a ServiceEntry for another's pods", || {
        let to = |namespaces: &str| entry(&format!(", exportTo: [{namespaces}]"));
        let entry =
            |namespaces| attempt("forum", &object("ServiceEntry", "forum", "name: web", &to(namespaces)));
        ["bank", "bank, shop"].map(entry).into()
    }),
    ("a ServiceEntry for everybody", || {
        let text = object("ServiceEntry", "shop", "name: web", &entry(", exportTo: ['*']"));
        vec![attempt("shop", &text).about(vec![What::Outside])]
    }),
    ("a Namespace that labels or annotates itself into another tenant", || {
        let labels = namespace("forum", "canopy.mesh/mode: node, canopy.mesh/tenant: bank");
        let annotations = namespace("forum", "canopy.mesh/mode: node")
            .replace("labels:", "annotations: {canopy.mesh/tenant: bank}, labels:");
        [labels, annotations].map(|text| edit("forum", (namespace_file("forum"), text))).into()
    }),
    ("a Namespace that takes another's name as its label", || {
        let text = namespace("forum", "canopy.mesh/mode: node, kubernetes.io/metadata.name: shop");
        vec![edit("forum", (namespace_file("forum"), text))]
    }),
    ("a Namespace that takes its pods out of the mesh although its Tenant keeps them", || {
        let text = namespace("forum", "canopy.mesh/mode: 'off'");
        vec![edit("forum", (namespace_file("forum"), text))]
    }),
    ("a Namespace that takes its pods out of the mesh, its Tenant not keeping them", || {
        let text = namespace("forum", "canopy.mesh/mode: 'off'");
        let given = vec![(tenant_file("forum"), tenant("forum", "forum", "egress: any"))];
        vec![Attempt { given, ..edit("forum", (namespace_file("forum"), text)).about(own("forum")) }]
    }),
    ("a Pod that labels or annotates itself into another tenant", || {
        let labels = "labels: {app: web, canopy.mesh/tenant: bank}";
        let own_netns = netns("more", "forum");
        [
            format!("{labels}, annotations: {{{own_netns}}}"),
            format!("{LABELS}, annotations: {{{own_netns}, canopy.mesh/tenant: bank}}"),
        ]
        .map(|metadata| attempt("forum", &pod_object("more", "forum", &metadata, "")).about(own("forum")))
        .into()
    }),
    ("a Pod with the address of another's", || {
        let text = pod_object(
            "more",
            "forum",
            &format!("{LABELS}, annotations: {{{}}}", netns("more", "forum")),
            "",
        );
        vec![attempt("forum", &text.replace(&pod("more", "forum"), &pod("web", "bank")))]
    }),
    ("a Pod with the network namespace of another's", || {
        let others = [netns("web", "bank"), netns("web", "bank").replace("/run", "/var/run")];
        let pod = |netns| pod_object("more", "forum", &format!("{LABELS}, annotations: {{{netns}}}"), "");
        others.map(|netns| attempt("forum", &pod(netns))).into()
    }),
    ("a Pod that asks for another's service account", || {
        let text = pod_object(
            "more",
            "forum",
            &format!("{LABELS}, annotations: {{{}}}", netns("more", "forum")),
            "",
        );
        let ask =
            |account| text.replace("serviceAccountName: app", &format!("serviceAccountName: {account}"));
        ["bank/app", "ns/bank/sa/app"].map(|account| attempt("forum", &ask(account))).into()
    }),
    ("a Pod that goes around the proxy although its Tenant is kept to the mesh", || {
        let around = ["exclude-outbound-ports: '443'", "exclude-outbound-cidrs: 0.0.0.0/0"];
        around.map(|around| excluded(&format!("canopy.mesh/{around}"))).into()
    }),
    ("a Pod that leaves the mesh although its Tenant is kept to it", || {
        let annotations = format!("annotations: {{{}}}", netns("more", "forum"));
        let with = |labels: &str| pod_object("more", "forum", &format!("{labels}, {annotations}"), "");
        let leaves = with("labels: {app: web, canopy.mesh/mode: 'off'}");
        vec![Attempt { given: vec![said(&with(LABELS))], ..attempt("forum", &leaves) }]
    }),
    ("a Pod of the node's network although its Tenant is kept to the mesh", || {
        let text = pod_object("more", "forum", LABELS, ", hostNetwork: true");
        vec![attempt("forum", &text.replace(&pod("more", "forum"), NODE_ADDRESS))]
    }),
    ("a Pod that leaves a port alone which the mesh's root namespace says is STRICT", || {
        let strict = object("PeerAuthentication", ROOT, "name: web", "spec: {mtls: {mode: STRICT}}");
        let mut attempt = excluded("canopy.mesh/exclude-inbound-ports: '8080'");
        attempt.given.push(("root.yaml".to_owned(), strict));
        vec![attempt]
    }),
    ("a Pod out of the mesh where the mesh's root namespace says STRICT, its Tenant not kept to it", || {
        let strict = object("PeerAuthentication", ROOT, "name: web", "spec: {mtls: {mode: STRICT}}");
        let free = (tenant_file("forum"), tenant("forum", "forum", "egress: any"));
        let text = pod_object("more", "forum", "labels: {app: web, canopy.mesh/mode: 'off'}", "");
        let given = vec![("root.yaml".to_owned(), strict), free];
        vec![Attempt { given, ..attempt("forum", &text).about(own("forum")) }]
    }),
    ("a Tenant in a namespace", || {
        let text = |name: &str, spec| {
            tenant(name, "bank, forum", spec)
                .replace(&format!("name: {name}"), &format!("name: {name}, namespace: forum"))
        };
        let said = ["egress: any", "egress: mesh", "isolation: process"];
        let named = |name| said.map(|spec| attempt("forum", &text(name, spec)));
        named("mine").into_iter().chain(named("bank")).collect()
    }),
    ("a Namespace in a namespace, of another's name", || {
        let text = namespace("bank", "team: web").replace("name: bank", "name: bank, namespace: forum");
        vec![attempt("forum", &text)]
    }),
    ("the platform: a second Tenant that lists `bank`", || {
        let other = |spec| edit("bank", said(&tenant("other", "bank", spec)));
        let free = vec![(tenant_file("bank"), tenant("bank", "bank", "egress: any"))];
        vec![other("egress: any"), Attempt { given: free, ..other("egress: mesh") }]
    }),
    ("the platform: a second Tenant that is the default", || {
        let default = |name, spec| {
            object("Tenant", "", &format!("name: {name}"), &format!("spec: {{globalDefault: true, {spec}}}"))
        };
        let given = vec![("default.yaml".to_owned(), default("rest", "isolation: thread"))];
        vec![Attempt { given, ..edit("default", said(&default("other", "isolation: process"))) }]
    }),
    ("a policy of another's name", || {
        let of = |of| object("AuthorizationPolicy", of, "name: web", "spec: {action: DENY, rules: [{}]}");
        vec![Attempt {
            given: vec![("bank-policy.yaml".into(), of("bank"))],
            ..attempt("forum", &of("forum"))
        }]
    }),
];

/// Every row of the table, in each of its ways.
pub(crate) fn cases() -> Vec<Case> {
    let table = page::table(page::HOSTILE);
    let of_row = |(name, tried): &Row| {
        let row = table.iter().find(|row| row[0] == *name);
        let [_, words, told] = row.unwrap_or_else(|| panic!("the page has no row {name:?}"))[..] else {
            panic!("{name}: not three columns")
        };
        let case = |(way, Attempt { of, given, said, calls }): (usize, Attempt)| Case {
            name: format!("{name} ({})", way + 1),
            of,
            given,
            said,
            changes: parts(words, of, &calls),
            told: page::told(told),
        };
        tried().into_iter().enumerate().map(case).collect::<Vec<_>>()
    };
    ROWS.iter().flat_map(of_row).collect()
}

impl Attempt {
    fn about(self, calls: Vec<What>) -> Self {
        Self { calls, ..self }
    }

    /// Beside another's route of the same name.
    fn given(self, of: &str, spec: &str) -> Self {
        let route = object("HTTPRoute", of, "name: web", spec);
        Self { given: vec![("routes.yaml".into(), route)], ..self }
    }
}

fn attempt(of: &'static str, text: &str) -> Attempt {
    edit(of, said(text))
}

fn edit(of: &'static str, file: Text) -> Attempt {
    Attempt { of, given: Vec::new(), said: vec![file], calls: Vec::new() }
}

fn more(vip: &str, more: &str) -> Attempt {
    attempt("forum", &object("Service", "forum", "name: more", &service(vip, more)))
}

fn named(addresses: &[&str]) -> Attempt {
    sliced("forum", addresses)
}

fn sliced(of: &'static str, addresses: &[&str]) -> Attempt {
    attempt(of, &object("EndpointSlice", of, SLICE, &slice(addresses)))
}

fn routed(spec: &str) -> Attempt {
    attempt("forum", &object("HTTPRoute", "forum", "name: web", spec))
}

/// A pod that is there, and then says this.
fn excluded(annotation: &str) -> Attempt {
    let with = |annotations: &str| {
        pod_object("more", "forum", &format!("{LABELS}, annotations: {{{annotations}}}"), "")
    };
    let netns = netns("more", "forum");
    let given = vec![said(&with(&netns))];
    Attempt { given, ..attempt("forum", &with(&format!("{netns}, {annotation}"))) }
}

/// A Service that is a name for another's.
fn alias() -> String {
    let spec = "spec: {type: ExternalName, externalName: web.bank.svc.cluster.local}";
    object("Service", "forum", "name: alias", spec)
}
