//! What can be told without SPIRE; with it, tests/e2e/tests/spire.rs does.

use std::sync::Arc;

use config::{
    identity::Identity,
    model::Workload,
    name::{Name, Namespace, NodeName, PodName, TenantId},
};
use futures_util::FutureExt;
use tokio::net::UnixListener;

use super::{Options, Spire, bundles::split, source::selectors, wire};
use crate::identity::{
    authority::{CertificateAuthority, Wanted, report},
    testing::TestAuthority,
};

mod following;

fn cart() -> Identity {
    "spiffe://mesh.test/ns/shop/sa/cart".parse().unwrap()
}

fn workload(name: &str, uid: Option<&str>) -> Arc<Workload> {
    let namespace = Namespace::try_from("shop").unwrap();
    let pod = PodName::new(namespace.clone(), Name::try_from(name).unwrap());
    let mut workload = Workload::new(pod, TenantId::Namespace(namespace), cart());
    workload.uid = uid.map(str::to_owned);
    workload.node = Some(NodeName::try_from("node-1").unwrap());
    workload.labels.insert("app".to_owned(), "cart".to_owned());
    Arc::new(workload)
}

#[test]
fn agent_is_told_all_that_is_true_of_every_workload_once() {
    let all = selectors(&cart(), &[workload("cart-1", Some("u-1")), workload("cart-2", None)]);
    assert!(all.iter().all(|selector| selector.kind == "k8s"));
    let values: Vec<_> = all.iter().map(|selector| selector.value.as_str()).collect();
    assert_eq!(
        values,
        [
            "node-name:node-1",
            "ns:shop",
            "pod-label:app:cart",
            "pod-name:cart-1",
            "pod-name:cart-2",
            "pod-uid:u-1",
            "sa:cart"
        ]
    );
}

#[test]
fn key_is_not_in_what_is_printed() {
    let svid = wire::SvidWithKey { x509_svid: None, x509_svid_key: b"secret".to_vec() };
    let text = format!("{:?}", wire::Svids { x509_svids: vec![svid] });
    assert!(!text.contains("key") && !text.contains("115, 101"), "{text}");
}

#[test]
fn certificates_one_behind_the_other_are_told_apart_and_a_torn_one_is_refused() {
    let roots: Vec<_> = (0..2)
        .map(|_| TestAuthority::new().roots().borrow().as_ref().unwrap().certificates()[0].clone())
        .collect();
    let bundle = roots.iter().flat_map(|root| root.to_vec()).collect::<Vec<u8>>();
    assert_eq!(split(&bundle).unwrap(), roots);
    assert!(split(&bundle[..bundle.len() - 1]).is_err());
    assert!(split(b"").unwrap().is_empty());
}

#[tokio::test]
async fn absent_agent_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let options = Options { socket: socket.clone(), trust_domain: cart().trust_domain };
    let spire = Spire::start(options.clone()).unwrap();
    let mut source = spire.source(&Wanted::of(cart()));
    let error = report(&source.obtain().await.unwrap_err());
    assert!(error.contains("there is no socket at") && error.contains("admin_socket_path"), "{error}");
    assert!(source.changed().now_or_never().is_none());
    drop(UnixListener::bind(&socket).unwrap());
    let error = report(&source.obtain().await.unwrap_err());
    assert!(error.contains("nobody listens at"), "{error}");
    assert!(report(&Spire::probe(&options).await.unwrap_err()).contains("nobody listens at"));
}
