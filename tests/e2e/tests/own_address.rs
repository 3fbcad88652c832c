//! On its own node, too, a caller is where its pod is: an address that it put on an interface itself is believed by nobody's `ipBlocks`, whichever way the connection takes.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use e2e::{HTTP, Origin, Stage};
use socket2::{Domain, Socket, Type};
use testkit::{Daemon, Options, Outcome, Pod};

/// Nobody's, by RFC 5737.
const CHOSEN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn an_address_that_a_pod_gave_itself_opens_nothing_within_a_tenant_or_across() -> Outcome {
    holds("auto", "thread", CHOSEN)
}

#[test]
fn nor_does_it_for_a_cell_in_a_process_of_its_own() -> Outcome {
    holds("auto", "process", CHOSEN)
}

#[test]
fn nor_does_it_where_the_kernel_has_no_hooks() -> Outcome {
    holds("iptables", "thread", CHOSEN)
}

/// A caller with an address that it chose: of a neighbour of its own tenant, and of one of another's. Each lets in one address.
fn holds(redirect: &str, class: &str, chosen: Ipv4Addr) -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    let (near, far) = (stage.pod("shop", "near", &[HTTP])?, stage.pod("bank", "far", &[HTTP])?);
    let _origins = [Origin::start(&near, 80)?, Origin::start(&far, 80)?];
    let tenant = format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: shop}}\n\
         spec: {{namespaces: [shop], isolation: {class}}}\n"
    );
    stage.manifests.write("tenant.yaml", &tenant)?;
    stage.manifests.write("policies.yaml", &only(chosen))?;
    let address = format!("{chosen}/32");
    let added = client.run(|| Command::new("ip").args(["addr", "add", &address, "dev", "lo"]).status())??;
    assert!(added.success());
    let options = Options { redirect: redirect.into(), ..Options::default() };
    let mut daemon = Daemon::start_with(&stage.node, stage.manifests.path(), &options)?;
    for (to, delivery) in [(near.at(80), "direct"), (far.at(80), "handoff")] {
        assert_eq!(ask_from(&client, chosen, to)?, "HTTP/1.1 403", "{delivery}");
        let line =
            daemon.wait_logged(|line| line["delivery"] == delivery && line["dst.addr"] == to.to_string())?;
        let source = line["src.addr"].as_str().unwrap_or_default();
        assert!(source.starts_with(&format!("{}:", client.v4())), "it is seen where its pod is: {line}");
    }
    // What is refused is the address, nothing else: the pod's own is let in by the same rules, whatever was bound.
    stage.put(&daemon, "policies.yaml", &only(client.v4()))?;
    for to in [near.at(80), far.at(80)] {
        assert_eq!(ask_from(&client, chosen, to)?, "HTTP/1.1 200", "{to}");
    }
    Ok(())
}

fn only(address: Ipv4Addr) -> String {
    let policy = |namespace: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: only, namespace: {namespace}}}\n\
             spec: {{rules: [{{from: [{{source: {{ipBlocks: [{address}]}}}}]}}]}}\n"
        )
    };
    ["shop", "bank"].map(policy).join("---\n")
}

/// The beginning of the answer to a caller that bound this address.
fn ask_from(
    client: &Pod,
    chosen: Ipv4Addr,
    to: SocketAddr,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let dial = || -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((chosen, 0)).into())?;
        socket.connect_timeout(&to.into(), LIMIT)?;
        Ok(socket.into())
    };
    let mut stream = client.run(dial)??;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
