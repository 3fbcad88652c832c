//! A tenant that is kept to the mesh: an endpoint of a Service is out of it unless it is a workload's, whoever says that it is
//! an endpoint.

use config::{
    model::{Audience, ServiceEntry},
    name::EntryName,
};

use super::{world::workload, *};
use crate::snapshot::policies::{External, Opening};

/// An entry of the caller's tenant for one port of loopback.
fn entry(port: u16) -> Arc<External> {
    let entry = ServiceEntry {
        name: EntryName::new("shop".try_into().unwrap(), "out".try_into().unwrap()),
        addresses: vec!["127.0.0.0/8".parse().unwrap()],
        ports: vec![port],
        endpoints: Vec::new(),
        hosts: Vec::new(),
        audience: Audience { every_tenant: false, namespaces: None },
    };
    Arc::new(External(vec![Opening { entry: Arc::new(entry), found: Vec::new() }]))
}

#[test]
fn a_service_leads_out_of_the_mesh_only_where_an_entry_names_its_endpoint() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        world.limit(Egress::Mesh);
        let mut client = world.dial(server.vip).await;
        assert!(reads_reset(&mut client).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::EgressForbidden), 1);

        // The entry names what is dialled in the end, not the Service's own port.
        world.external.replace(entry(80));
        world.limit(Egress::Mesh);
        assert!(reads_reset(&mut world.dial(server.vip).await).await);
        world.external.replace(entry(server.address.port()));
        world.limit(Egress::Mesh);
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        flows(&mut client, &mut stream).await;

        world.external.replace(Arc::default());
        world.limit(Egress::Mesh);
        assert!(reads_reset(&mut client).await, "it is cut when the entry goes");
        assert!(reads_reset(&mut stream).await);
        world.emptied(3).await;
        assert_eq!(world.cell.ledger.refusals(Reason::EgressForbidden), 3);
    });
}

#[test]
fn a_service_of_workloads_needs_no_entry() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        world.know(&[workload()]);
        world.limit(Egress::Mesh);
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        flows(&mut client, &mut stream).await;
        drop((client, stream));
        world.emptied(1).await;
    });
}

#[test]
fn what_a_service_led_out_of_the_mesh_ends_when_the_tenant_is_kept_to_it() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Http1).await;
        let mut client = world.dial(server.vip).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let (mut stream, _) = server.listener.accept().await.unwrap();
        let mut head = [0; 14];
        stream.read_exact(&mut head).await.unwrap();
        world.limit(Egress::Mesh);
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 403");
        assert_eq!(world.cell.ledger.refusals(Reason::EgressForbidden), 1);
        let mut next = world.dial(server.vip).await;
        next.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        next.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 403");
        drop((client, next, stream));
        world.emptied(2).await;
    });
}
