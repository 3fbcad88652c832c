//! Which endpoints of a Service its callers get, by what the Service says: on their own node, for their zone, the one they had last.

use std::collections::BTreeSet;

use e2e::{HTTP, Stage};
use testkit::{
    Daemon, KitError, Outcome, Pod, Server, block_on,
    http::{self, Connection},
};

const VIP: &str = "10.96.0.7";

#[test]
fn a_client_stays_with_its_endpoint_while_others_come_and_until_it_is_not_ready() -> Outcome {
    let set = Set::new("sessionAffinity: ClientIP", &["a", "b"].map(|name| (name, "")))?;
    let daemon = set.stage.daemon()?;
    let home = set.ask()?;
    for _ in 0..12 {
        assert_eq!(set.ask()?, home);
    }
    for answer in set.ask_on_one_connection(6)? {
        assert_eq!(answer, home, "each request of a connection goes there");
    }
    set.slice(&daemon, &["a", "b", "c", "d"].map(|name| (name, "")))?;
    for _ in 0..12 {
        assert_eq!(set.ask()?, home, "although others have come");
    }
    let unready = |name: &'static str| (name, if name == home { "conditions: {ready: false}" } else { "" });
    set.slice(&daemon, &["a", "b", "c", "d"].map(unready))?;
    let next = set.ask()?;
    assert_ne!(next, home);
    for _ in 0..12 {
        assert_eq!(set.ask()?, next);
    }
    let told = set.explain(&daemon)?;
    assert!(
        told.contains("sessionAffinity ClientIP: a client goes where it went last, for 10800 s"),
        "{told}"
    );
    set.service(&daemon, "sessionAffinity: None")?;
    let all: BTreeSet<String> = (0..60).map(|_| set.ask()).collect::<Result<_, _>>()?;
    assert_eq!(all.len(), 3, "without affinity all that are ready are used: {all:?}");
    Ok(())
}

#[test]
fn a_service_for_callers_of_its_endpoints_own_node_leads_to_no_other_node() -> Outcome {
    let (here, there) = (("a", "nodeName: here"), ("b", "nodeName: there"));
    let set = Set::new("internalTrafficPolicy: Local", &[here, there])?;
    let mut daemon = set.stage.daemon_with(&["--node", "here"])?;
    for _ in 0..20 {
        assert_eq!(set.ask()?, "a");
    }
    let told = set.explain(&daemon)?;
    assert!(told.contains("internalTrafficPolicy Local: endpoints on the caller's own node alone"), "{told}");
    let ending = "nodeName: here, conditions: {ready: false, serving: true, terminating: true}";
    set.slice(&daemon, &[("a", ending), there])?;
    assert_eq!(set.ask()?, "a", "it ends, and still serves");
    set.slice(&daemon, &[("a", "nodeName: here, conditions: {ready: false}"), there])?;
    let answer = http::get(&set.client, vip(), "web", "/")?;
    assert_eq!((answer.status.as_u16(), answer.header("canopy-refused")), (503, "no_local_endpoint"));
    daemon.wait_logged(|line| line["reason"] == "no_local_endpoint" && line["dst.service"] == "shop/web")?;
    let told = set.explain(&daemon)?;
    assert!(told.contains("no_local_endpoint") && told.contains("is ready on this node"), "{told}");
    set.slice(&daemon, &[here, there])?;
    assert_eq!(set.ask()?, "a");
    Ok(())
}

#[test]
fn endpoints_that_are_meant_for_the_nodes_zone_are_preferred_as_long_as_one_is_ready() -> Outcome {
    let (own, other) = (("a", "hints: {forZones: [{name: z}]}"), ("b", "hints: {forZones: [{name: y}]}"));
    let set = Set::new("trafficDistribution: PreferSameZone", &[own, other])?;
    let daemon = set.stage.daemon_with(&["--node", "here", "--zone", "z"])?;
    for _ in 0..20 {
        assert_eq!(set.ask()?, "a");
    }
    set.slice(&daemon, &[("a", "conditions: {ready: false}, hints: {forZones: [{name: z}]}"), other])?;
    assert_eq!(set.ask()?, "b");
    Ok(())
}

/// A client, servers `a` to `d`, and a Service before some of them.
struct Set {
    client: Pod,
    pods: Vec<(&'static str, Pod)>,
    _servers: Vec<Server>,
    // Last: what is made on its node is dropped before it.
    stage: Stage,
}

impl Set {
    fn new(spec: &str, endpoints: &[(&'static str, &str)]) -> Result<Self, KitError> {
        let stage = Stage::new()?;
        let client = stage.pod("shop", "client", &[])?;
        let pods = ["a", "b", "c", "d"].map(|name| Ok((name, stage.pod("shop", name, &[HTTP])?)));
        let pods = pods.into_iter().collect::<Result<Vec<_>, KitError>>()?;
        let servers = pods.iter().map(|(_, pod)| Server::nginx(pod, 80)).collect::<Result<_, _>>()?;
        let set = Self { client, pods, _servers: servers, stage };
        set.stage.manifests.write("web.yaml", &service(spec))?;
        set.stage.manifests.write("web-1.yaml", &set.slice_of(endpoints))?;
        Ok(set)
    }

    /// The name of the pod that answers.
    fn ask(&self) -> Result<String, http::RequestError> {
        Ok(http::get(&self.client, vip(), "web", "/")?.text().trim().to_owned())
    }

    /// The names of those that answer one request after the other.
    fn ask_on_one_connection(
        &self,
        requests: usize,
    ) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
        let answers = self.client.run(|| {
            block_on(async {
                let mut connection = Connection::http1(vip()).await?;
                let mut answers = Vec::new();
                for _ in 0..requests {
                    answers.push(connection.get("web", "/").await?.text().trim().to_owned());
                }
                Ok::<_, http::RequestError>(answers)
            })
        });
        Ok(answers??)
    }

    fn explain(&self, daemon: &Daemon) -> Result<String, KitError> {
        let told = daemon.canopy(&["explain", "--from", "shop/client", "--to", "web:80"])?;
        Ok(String::from_utf8_lossy(&told.stdout).into_owned())
    }

    fn service(&self, daemon: &Daemon, spec: &str) -> Result<(), KitError> {
        self.stage.put(daemon, "web.yaml", &service(spec))
    }

    /// Puts these endpoints behind the Service, with what is said of each.
    fn slice(&self, daemon: &Daemon, endpoints: &[(&'static str, &str)]) -> Result<(), KitError> {
        self.stage.put(daemon, "web-1.yaml", &self.slice_of(endpoints))
    }

    fn slice_of(&self, endpoints: &[(&'static str, &str)]) -> String {
        let endpoint = |(name, said): &(&'static str, &str)| {
            let pod = self.pods.iter().find(|(known, _)| known == name).map(|(_, pod)| pod.v4());
            pod.map_or_else(String::new, |address| format!("- {{addresses: [{address}], {said}}}\n"))
        };
        let endpoints: String = endpoints.iter().map(endpoint).collect();
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints:\n{endpoints}"
        )
    }
}

fn service(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{clusterIP: {VIP}, {spec}, ports: [{{name: http, port: 80}}]}}\n"
    )
}

fn vip() -> std::net::SocketAddr {
    std::net::SocketAddr::new(VIP.parse().expect("an address"), 80)
}
