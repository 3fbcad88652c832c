//! What may change of a pod while its tree stands (labels) is what peers and authorities are told of it, as it is now.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Mutex,
};

use ::http::{Method, Request, Response};
use config::model::Workload;
use tokio::sync::watch;

use super::{
    tunnels::{Pair, named, own_address},
    world::Made,
    *,
};
use crate::{
    identity::{
        authority::{CertificateAuthority, CertificateSource, Wanted},
        credentials::Sources,
        testing::TestAuthority,
        trust::Roots,
    },
    upstream::connect::Kernel,
};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The same pod, with a label that it did not have when its tree was planted.
fn relabelled(name: &str, address: IpAddr) -> Workload {
    let mut workload = named(name, address);
    workload.labels.insert("app".to_owned(), "renamed".to_owned());
    workload
}

fn world(workload: Workload, identity: Sources) -> World {
    World::of(Made { workload, connect: Rc::new(Kernel), identity }, |_| ())
}

/// The `baggage` of the first CONNECT that comes to a pod, which is answered by hand.
async fn first_baggage(callee: &World, listener: TcpListener) -> String {
    let own = &callee.tree.workload.identity;
    let config = callee.cell.credentials.server(own).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(config).accept(socket).await.unwrap();
    let mut http = h2::server::handshake(tls).await.unwrap();
    let (request, mut respond) = http.accept().await.unwrap().unwrap();
    respond.send_response(Response::new(()), true).unwrap();
    request.headers()["baggage"].to_str().unwrap().to_owned()
}

#[test]
fn the_proxies_of_both_ends_say_of_their_pod_what_is_true_now() {
    on_a_cell(async {
        let authority = TestAuthority::new();
        let caller = world(named("caller", LOCALHOST), authority.sources());
        let ip = own_address();
        let callee = world(named("callee", ip), authority.sources());
        let listener = TcpListener::bind((ip, hbone::PORT)).await.unwrap();
        caller.know(&[named("callee", ip), relabelled("caller", LOCALHOST)]);
        let (said, _client) =
            tokio::join!(first_baggage(&callee, listener), caller.dial(SocketAddr::new(ip, 80)));
        assert!(said.contains("service.name=renamed"), "{said}");

        let pair = Pair::new().await;
        pair.callee.know(&[relabelled("callee", pair.address.ip())]);
        let target = pair.address.to_string();
        let request = Request::builder().method(Method::CONNECT).uri(target).body(()).unwrap();
        let (response, _stream) = pair.by_hand().await.send_request(request, false).unwrap();
        let said = response.await.unwrap().headers()["baggage"].to_str().unwrap().to_owned();
        assert!(said.contains("service.name=renamed"), "{said}");
    });
}

/// An authority that keeps what it is told of workloads.
#[derive(Debug)]
struct Asked {
    authority: TestAuthority,
    workloads: Mutex<Option<watch::Receiver<Vec<Arc<Workload>>>>>,
}

impl CertificateAuthority for Asked {
    fn name(&self) -> &'static str {
        "asked"
    }

    fn source(&self, wanted: &Wanted) -> Box<dyn CertificateSource> {
        self.workloads.lock().unwrap().replace(wanted.workloads.clone());
        self.authority.source(wanted)
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.authority.roots()
    }
}

#[test]
fn an_authority_is_told_of_workloads_as_they_are_now() {
    on_a_cell(async {
        let asked = Arc::new(Asked { authority: TestAuthority::new(), workloads: Mutex::default() });
        let world = world(named("caller", LOCALHOST), Sources::new(Arc::clone(&asked) as Arc<_>));
        world.cell.credentials.client(&world.tree.workload.identity, &[]).await.unwrap();
        let workloads = asked.workloads.lock().unwrap().take().unwrap();
        let labels = || -> Vec<_> {
            workloads.borrow().iter().map(|workload| workload.labels.get("app").cloned()).collect()
        };
        assert_eq!(labels(), [None]);
        for app in [Some("renamed".to_owned()), None] {
            let now = if app.is_some() { relabelled } else { named };
            world.know(&[now("caller", LOCALHOST)]);
            assert_eq!(labels(), [app]);
        }
        // What is planted anew begins with what is known by then.
        world.know(&[relabelled("caller", LOCALHOST)]);
        world.cell.plant(Rc::clone(&world.tree));
        assert_eq!(labels(), [Some("renamed".to_owned())]);
        world.cell.uproot(&world.tree.workload.pod);
        assert!(labels().is_empty(), "and nothing is left of it");
    });
}
