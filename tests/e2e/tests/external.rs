//! A tenant that is kept to the mesh reaches what a ServiceEntry names, for as long as it does, and nothing else.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use e2e::{Listener, Stage, dial, eventually, prompt};
use testkit::{Daemon, Outcome, Pod};

/// Two tenants that are kept to the mesh, and somebody outside of it.
struct Scene {
    daemon: Daemon,
    shop: Pod,
    bank: Pod,
    outside: Pod,
    _echoes: [Listener; 2],
    stage: Stage,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let (shop, bank) = (stage.pod("shop", "client", &[])?, stage.pod("bank", "teller", &[])?);
        let outside = stage.node.pod("away", "outside")?;
        let echoes =
            [7000, 7001].map(|port| Listener::echo(&outside, SocketAddr::new([0_u16; 8].into(), port)));
        let [one, other] = echoes;
        for name in ["shop", "bank"] {
            let tenant = format!(
                "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n\
                 spec: {{namespaces: [{name}], egress: mesh}}\n"
            );
            stage.manifests.write(&format!("{name}-tenant.yaml"), &tenant)?;
        }
        let daemon = stage.daemon()?;
        Ok(Self { daemon, shop, bank, outside, _echoes: [one?, other?], stage })
    }

    /// Whether shop reaches the outsider at port 7000, at 7001, at 7000 by IPv6, and whether bank does.
    fn reached(&self) -> [bool; 4] {
        let reaches = |from: &Pod, to| dial(from, to).is_ok_and(|mut stream| echoes(&mut stream));
        let (outside, shop) = (&self.outside, &self.shop);
        [
            reaches(shop, outside.at(7000)),
            reaches(shop, outside.at(7001)),
            reaches(shop, outside.at_v6(7000)),
            reaches(&self.bank, outside.at(7000)),
        ]
    }

    /// A ServiceEntry in a namespace, with these further fields.
    fn entry(&self, namespace: &str, more: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: pay, namespace: {namespace}}}\n\
             spec: {{hosts: [pay.example.org], ports: [{{number: 7000, name: tcp, protocol: TCP}}], resolution: NONE{more}}}\n"
        )
    }

    /// Puts this in the place of the ServiceEntry that was; nothing, if it says nothing.
    fn edit(&self, text: &str) -> Result<(), testkit::KitError> {
        self.stage.put(&self.daemon, "entry.yaml", text)
    }

    fn wait_refused(&self, tenant: &str, times: f64) -> Result<(), testkit::KitError> {
        let labels = [&*format!("tenant=\"{tenant}\""), "reason=\"egress_forbidden\""];
        self.daemon.wait_metric("canopy_refused_total", &labels, times)
    }

    /// Takes the entry away from a live connection: how soon after that was compiled it ends.
    fn cut(&self) -> Result<Duration, Box<dyn std::error::Error + Send + Sync>> {
        let mut live = dial(&self.shop, self.outside.at(7000))?;
        assert!(echoes(&mut live));
        // An edit that still names it is nothing to who is connected.
        self.edit(&self.entry("shop", &format!(", addresses: [{}/24]", self.outside.v4())))?;
        assert!(echoes(&mut live));
        let is_gone = || self.stage.manifests.remove("entry.yaml");
        let [end] = prompt::ends(&self.daemon, &mut [&mut live], is_gone)?[..] else {
            return Err("one end".into());
        };
        assert!(end.is_reset);
        Ok(end.after)
    }
}

/// Whether both ends hear each other.
fn echoes(stream: &mut TcpStream) -> bool {
    let mut back = [0; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"hello"
}

#[test]
fn what_a_service_entry_names_is_reached_while_it_does_and_live_connections_end_with_it() -> Outcome {
    let mut scene = Scene::new()?;
    assert_eq!(scene.reached(), [false; 4]);
    let line = scene.daemon.wait_logged(|line| line["workload"] == "shop/client")?;
    assert_eq!(line["reason"], "egress_forbidden", "{line}");
    scene.wait_refused("shop", 3.0)?;
    scene.wait_refused("bank", 1.0)?;

    let named = scene.entry("shop", &format!(", addresses: [{}]", scene.outside.v4()));
    let opened = [true, false, false, false];
    prompt::kept("an entry that is gone", || {
        scene.edit(&named)?;
        assert_eq!(scene.reached(), opened, "that port, at that address, for that tenant");
        let took = scene.cut()?;
        assert_eq!(scene.reached(), [false; 4], "it is closed again");
        Ok(vec![took])
    })?;
    let cut = |line: &serde_json::Value| line["bytes_received"] == 10 && line["reason"] == "egress_forbidden";
    scene.daemon.wait_logged(cut)?;
    Ok(())
}

#[test]
fn an_entry_opens_to_its_own_tenant_and_to_all_only_from_the_root_namespace() -> Outcome {
    let scene = Scene::new()?;
    let addresses = format!(", addresses: [{}]", scene.outside.v4());
    let with = |more: &str| format!("{addresses}, {more}");
    let v6 = format!(", addresses: [\"{}\", {}]", scene.outside.v6(), scene.outside.v4());
    // What shop reaches at 7000, 7001 and by IPv6, and what bank does.
    let table = [
        ("its own", scene.entry("shop", &addresses), [true, false, false, false]),
        ("both families", scene.entry("shop", &v6), [true, false, true, false]),
        ("another tenant's", scene.entry("bank", &addresses), [false, false, false, true]),
        (
            "another tenant's, exported to all",
            scene.entry("bank", &with("exportTo: [\"*\"]")),
            [false, false, false, true],
        ),
        (
            "another tenant's, exported to this one",
            scene.entry("bank", &with("exportTo: [shop]")),
            [false; 4],
        ),
        ("its own, exported to nobody", scene.entry("shop", &with("exportTo: [\"~\"]")), [false; 4]),
        ("the root namespace's", scene.entry("istio-system", &addresses), [true, false, false, true]),
        (
            "the root namespace's, for one",
            scene.entry("istio-system", &with("exportTo: [bank]")),
            [false, false, false, true],
        ),
        ("a name that nobody knows", scene.entry("shop", ""), [false; 4]),
    ];
    for (what, text, expected) in table {
        scene.edit(&text)?;
        let mut reached = [false; 4];
        let settled = eventually(what, || {
            reached = scene.reached();
            reached == expected
        });
        assert!(settled.is_ok(), "{what}: {reached:?}, not {expected:?}");
        scene.edit("")?;
        eventually("it is closed again", || scene.reached() == [false; 4])?;
    }
    Ok(())
}

#[test]
fn a_pod_that_excludes_what_is_outside_is_kept_to_the_mesh_all_the_same() -> Outcome {
    let scene = Scene::new()?;
    let text = scene.stage.manifests.read("shop-client-pod.yaml")?;
    let around = format!(
        "annotations: {{canopy.mesh/exclude-outbound-cidrs: \"{}/32\", canopy.mesh/exclude-outbound-ports: \"7001\", ",
        scene.outside.v4()
    );
    scene.stage.put(&scene.daemon, "shop-client-pod.yaml", &text.replacen("annotations: {", &around, 1))?;
    assert_eq!(scene.reached(), [false; 4]);
    let status = String::from_utf8(scene.daemon.canopy(&["status"])?.stdout)?;
    for list in ["cidrs", "ports"] {
        let said = format!(
            "[canopy.mesh/exclude-outbound-{list}]: not obeyed, since spec.egress of Tenant shop is mesh"
        );
        assert!(status.contains(&said), "{status}");
    }
    // The tenant's own word alone lets it out.
    let tenant = scene.stage.manifests.read("shop-tenant.yaml")?;
    scene.stage.put(&scene.daemon, "shop-tenant.yaml", &tenant.replace("egress: mesh", "egress: any"))?;
    eventually("it is let out", || scene.reached() == [true, true, true, false])?;
    let status = String::from_utf8(scene.daemon.canopy(&["status"])?.stdout)?;
    assert!(!status.contains("not obeyed, since"), "{status}");
    Ok(())
}
