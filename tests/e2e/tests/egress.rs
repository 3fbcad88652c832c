//! A tenant that is kept to the mesh is so whatever anybody writes but its Tenant object and ServiceEntries of its own or of
//! the root namespace: one row per way that was thought of.

use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use e2e::{HTTP, Origin, Stage, byte, dial, eventually, head, is_reset};
use testkit::{Daemon, KitError, Outcome, Pod, http};

/// A tenant that is kept to the mesh, one that is not, and somebody outside who remembers whom he heard.
struct Scene {
    daemon: Daemon,
    client: Pod,
    outside: Pod,
    heard: Origin,
    _server: (Origin, Pod),
    stage: Stage,
}

/// A way out that somebody tries.
struct Way {
    /// Who writes what.
    what: &'static str,
    file: &'static str,
    text: String,
    /// What the client dials then.
    to: SocketAddr,
}

const OUTSIDE: u16 = 7000;
const EXTRA: &str = "extra.yaml";

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let client = stage.pod("shop", "client", &[])?;
        let server = stage.pod("shop", "server", &[HTTP])?;
        let outside = stage.node.pod("away", "outside")?;
        stage.manifests.namespace("bank")?;
        let vip = stage.service(("shop", "web"), 1, &[HTTP], &[&server])?;
        stage.manifests.write(
            "tenant.yaml",
            "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: shop}\n\
             spec: {namespaces: [shop], egress: mesh}\n",
        )?;
        let (heard, answers) = (Origin::start(&outside, OUTSIDE)?, Origin::start(&server, 80)?);
        let daemon = stage.daemon()?;
        assert_eq!(http::get(&client, vip.at(80), "web", "/")?.status, 200, "the mesh itself is reached");
        Ok(Self { daemon, client, outside, heard, _server: (answers, server), stage })
    }

    /// The ways out; all of them lead to the outsider, were they open.
    fn ways(&self) -> Result<Vec<Way>, KitError> {
        let mut ways = self.by_labels()?;
        ways.extend(self.by_services());
        ways.extend(self.by_routes());
        Ok(ways)
    }

    /// What the pod's author, or the namespace's, says of the pod.
    fn by_labels(&self) -> Result<Vec<Way>, KitError> {
        let pod = self.stage.manifests.read("shop-client-pod.yaml")?;
        let annotated = |more: &str| pod.replacen("annotations: {", &format!("annotations: {{{more}, "), 1);
        let way = |what, file, text| Way { what, file, text, to: self.outside.at(OUTSIDE) };
        let client = "shop-client-pod.yaml";
        Ok(vec![
            way("nobody", EXTRA, String::new()),
            way(
                "the pod's label",
                client,
                pod.replacen("  annotations:", "  labels: {canopy.mesh/mode: 'off'}\n  annotations:", 1),
            ),
            way("its excluded ports", client, annotated("canopy.mesh/exclude-outbound-ports: '7000'")),
            way(
                "its excluded networks",
                client,
                annotated("canopy.mesh/exclude-outbound-cidrs: '0.0.0.0/0,::/0'"),
            ),
            way("its excluded inbound ports", client, annotated("canopy.mesh/exclude-inbound-ports: '7000'")),
            way(
                "its namespace's label",
                "shop-namespace.yaml",
                "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {canopy.mesh/mode: 'off'}}\n".into(),
            ),
        ])
    }

    /// Who calls the outsider its own.
    fn by_services(&self) -> Vec<Way> {
        let (direct, address) = (self.outside.at(OUTSIDE), self.outside.v4());
        let way = |what, text, to| Way { what, file: EXTRA, text, to };
        let service = |spec: &str| {
            format!("apiVersion: v1\nkind: Service\nmetadata: {{name: out, namespace: shop}}\nspec: {spec}\n")
        };
        vec![
            way("a Service of its own with a slice", led_out("shop", "tcp", address), vip(9)),
            way("the same, of HTTP", led_out("shop", "http", address), vip(9)),
            way("another tenant's Service with a slice", led_out("bank", "tcp", address), vip(9)),
            way("the same, of HTTP", led_out("bank", "http", address), vip(9)),
            way(
                "an ExternalName",
                service(&format!("{{type: ExternalName, externalName: {address}}}")),
                direct,
            ),
            way(
                "external IPs",
                service(&format!(
                    "{{clusterIP: 10.96.0.9, externalIPs: [{address}], ports: [{{port: {OUTSIDE}}}]}}"
                )),
                direct,
            ),
            way(
                "a cluster address that is the outsider's",
                service(&format!("{{clusterIP: {address}, ports: [{{port: {OUTSIDE}}}]}}")),
                direct,
            ),
            way("another tenant's ServiceEntry", entry("bank", "", address), direct),
            way("the same, exported to all", entry("bank", ", exportTo: ['*']", address), direct),
            way(
                "its own ServiceEntry, exported to nobody",
                entry("shop", ", exportTo: ['~']", address),
                direct,
            ),
            way(
                "a pod of the node's network as endpoint",
                format!(
                    "apiVersion: v1\nkind: Pod\nmetadata: {{name: host, namespace: shop, labels: {{app: host}}}}\n\
                     spec: {{hostNetwork: true, containers: [{{name: c}}]}}\n\
                     status: {{podIP: {address}, hostIP: {address}}}\n---\n{}",
                    service(
                        "{clusterIP: 10.96.0.9, selector: {app: host}, ports: [{port: 80, targetPort: 7000}]}"
                    )
                ),
                vip(9),
            ),
        ]
    }

    /// Routes of a Service of the mesh.
    fn by_routes(&self) -> Vec<Way> {
        let address = self.outside.v4();
        let way = |what, text| Way { what, file: EXTRA, text, to: vip(1) };
        vec![
            way(
                "a route to a backend outside",
                led_out("shop", "http", address) + &route("backendRefs: [{name: out, port: 80}]"),
            ),
            way(
                "another tenant's backend",
                led_out("bank", "http", address)
                    + &route("backendRefs: [{name: out, namespace: bank, port: 80}]"),
            ),
            way(
                "a mirror outside",
                led_out("shop", "http", address)
                    + &route(
                        "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: out, port: 80}}}]\n    \
                         backendRefs: [{name: web, port: 80}]",
                    ),
            ),
        ]
    }

    /// Tries one way: what the client got, and whether the outsider heard of it.
    fn tries(&self, way: &Way) -> Result<(Option<u16>, bool), KitError> {
        let before = self.heard.seen().len();
        let answer = http::get(&self.client, way.to, "web", "/").ok().map(|answer| answer.status.into());
        // A mirror is sent beside its request.
        let heard = || self.heard.seen().len() > before;
        let waits = if way.what.contains("mirror") { 100 } else { 0 };
        let late = (0..waits).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            heard()
        });
        Ok((answer, late || heard()))
    }

    /// Puts what somebody writes in place while `then` runs.
    fn with<T>(&self, way: &Way, then: impl FnOnce() -> Result<T, KitError>) -> Result<T, KitError> {
        let before = self.stage.manifests.read(way.file).unwrap_or_default();
        self.stage.put(&self.daemon, way.file, &way.text)?;
        let outcome = then();
        self.stage.put(&self.daemon, way.file, &before)?;
        outcome
    }
}

fn vip(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 96, 0, host], 80))
}

/// A Service at 10.96.0.9 whose endpoints are the outsider's.
fn led_out(namespace: &str, protocol: &str, address: std::net::Ipv4Addr) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: out, namespace: {namespace}}}\n\
         spec: {{clusterIP: 10.96.0.9, ports: [{{name: {protocol}, port: 80, targetPort: {OUTSIDE}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: out, namespace: {namespace}, labels: {{kubernetes.io/service-name: out}}}}\n\
         addressType: IPv4\nports: [{{name: {protocol}, port: {OUTSIDE}}}]\nendpoints: [{{addresses: [{address}]}}]\n"
    )
}

/// A route of `shop/web`, after other objects.
fn route(rule: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: web}}]\n  rules:\n  - {rule}\n"
    )
}

fn entry(namespace: &str, more: &str, address: std::net::Ipv4Addr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: out, namespace: {namespace}}}\n\
         spec: {{hosts: [out.example.org], addresses: [{address}], ports: [{{number: {OUTSIDE}, name: tcp}}]{more}}}\n"
    )
}

#[test]
fn nobody_opens_a_tenants_egress_but_its_tenant_object_and_its_service_entries() -> Outcome {
    let scene = Scene::new()?;
    for way in scene.ways()? {
        let (answer, heard) = scene.with(&way, || scene.tries(&way))?;
        assert!(!heard, "{}: {answer:?}\n{}", way.what, way.text);
        let expected = match way.what {
            what if what.contains("mirror") => Some(200),
            _ if way.text.contains("name: http,") => Some(403),
            // Nobody is behind these.
            what if what.contains("cluster address") || what.contains("node's network") => Some(503),
            _ => None,
        };
        assert_eq!(answer, expected, "{}", way.what);
    }
    let labels = ["tenant=\"shop\"", "reason=\"egress_forbidden\""];
    let refused = || scene.daemon.metric("canopy_refused_total", &labels);
    eventually("each is counted", || refused().is_ok_and(|count| count >= 16.0))?;
    Ok(())
}

#[test]
fn every_way_is_open_where_the_tenants_own_entry_names_its_end() -> Outcome {
    let scene = Scene::new()?;
    let address = scene.outside.v4();
    for (whose, more) in [("shop", ""), ("istio-system", ", exportTo: ['*']")] {
        scene.stage.put(&scene.daemon, "entry.yaml", &entry(whose, more, address))?;
        for way in scene.ways()? {
            // Those that lead nowhere, whoever may go there: no Service takes an address for itself and ends there.
            let ends = ["cluster address", "pod of the node"].iter().any(|end| way.what.contains(end));
            if ends || way.text.contains("kind: ServiceEntry") {
                continue;
            }
            let (answer, heard) = scene.with(&way, || scene.tries(&way))?;
            assert!(heard && answer == Some(200), "{}, by an entry of {whose}: {answer:?} {heard}", way.what);
        }
    }
    Ok(())
}

#[test]
fn what_a_service_leads_out_of_the_mesh_is_cut_when_its_entry_goes() -> Outcome {
    let mut scene = Scene::new()?;
    let address = scene.outside.v4();
    for protocol in ["tcp", "http"] {
        scene.stage.put(&scene.daemon, "entry.yaml", &entry("shop", "", address))?;
        scene.stage.put(&scene.daemon, "extra.yaml", &led_out("bank", protocol, address))?;
        let mut stream = dial(&scene.client, vip(9))?;
        let before = scene.heard.seen().len();
        stream.write_all(b"GET /?ms=20000 HTTP/1.1\r\nhost: out\r\n\r\n")?;
        eventually("it is under way", || scene.heard.seen().len() > before)?;
        scene.stage.put(&scene.daemon, "entry.yaml", "")?;
        if protocol == "tcp" {
            let end = byte(&stream);
            assert!(is_reset(&end), "{end:?}");
        } else {
            let head = head(&mut stream)?;
            assert!(head.starts_with("HTTP/1.1 403") && head.contains("egress_forbidden"), "{head}");
        }
    }
    scene.daemon.wait_logged(|line| line["reason"] == "egress_forbidden" && line["status"] == 403)?;
    Ok(())
}

/// Whether a connection still carries a request and its answer.
fn asks(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: out\r\n\r\n")?;
    Ok(head(stream)?.starts_with("HTTP/1.1 200 "))
}

#[test]
fn what_an_exclusion_let_out_ends_with_it_and_with_the_tenants_being_free_and_nothing_else_does() -> Outcome {
    let scene = Scene::new()?;
    let tenant = scene.stage.manifests.read("tenant.yaml")?;
    let pod = scene.stage.manifests.read("shop-client-pod.yaml")?;
    let let_out =
        pod.replacen("annotations: {", "annotations: {canopy.mesh/exclude-outbound-ports: '7000', ", 1);
    let put = |file: &str, text: &str| scene.stage.put(&scene.daemon, file, text);
    put("tenant.yaml", &tenant.replace("mesh}", "any}"))?;
    // The daemon's own connection to the same place, and one to the mesh.
    let (mut through, mut within) =
        (dial(&scene.client, scene.outside.at(OUTSIDE))?, dial(&scene.client, vip(1))?);
    assert!(asks(&mut through)? && asks(&mut within)?);
    for (file, text) in [("shop-client-pod.yaml", &pod), ("tenant.yaml", &tenant)] {
        put("shop-client-pod.yaml", &let_out)?;
        let mut around = dial(&scene.client, scene.outside.at(OUTSIDE))?;
        assert!(asks(&mut around)?);
        let heard = scene.heard.seen().last().map(|seen| (seen.peer.ip().to_canonical(), seen.peer.port()));
        let own = (scene.client.v4().into(), around.local_addr()?.port());
        assert_eq!(heard, Some(own), "past the proxy");
        put("labels.yaml", "")?;
        assert!(asks(&mut around)?, "another edit leaves it alone");
        put(file, text)?;
        let end = byte(&around);
        let is_ended = |error: &std::io::Error| {
            matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
        };
        assert!(end.as_ref().is_err_and(is_ended), "{file}: {end:?} {}", scene.daemon.output());
        assert!(asks(&mut within)?, "{file}");
        assert!(file == "tenant.yaml" || asks(&mut through)?, "what the daemon itself carries goes on");
    }
    Ok(())
}

#[test]
fn what_is_not_obeyed_of_a_kept_tenant_is_said_where_it_is_written() -> Outcome {
    let scene = Scene::new()?;
    for way in scene.ways()? {
        let says = match way.what {
            "the pod's label" => "not obeyed, since spec.egress of Tenant shop is mesh",
            "its namespace's label" => {
                "takes no pod out of the mesh, since spec.egress of Tenant shop is mesh"
            }
            "a pod of the node's network as endpoint" => "goes where it likes by the node's network",
            _ => continue,
        };
        let told = scene.with(&way, || Ok(scene.daemon.canopy(&["status"])?.stdout))?;
        let told = String::from_utf8(told)?;
        let words = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(says), "{}: {told}", way.what);
    }
    Ok(())
}
