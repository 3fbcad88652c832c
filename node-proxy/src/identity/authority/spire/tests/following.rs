//! Against an agent in this process that has one entry, which asks for a label: whether it is asked anew when labels change.

use std::{convert::Infallible, path::Path, time::Duration};

use futures_util::{StreamExt, stream};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{sync::watch, time::timeout};
use tonic::{Request, Response, Status, server::Grpc};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::{
    super::{
        source::Source,
        wire::{SVIDS, SpiffeId, Svid, SvidWithKey, Svids, SvidsRequest},
    },
    *,
};
use crate::identity::authority::CertificateSource;

/// What the entry asks for.
const LABEL: &str = "pod-label:app:cart";

async fn agent(listener: UnixListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(|request: http::Request<_>| async move {
                assert_eq!(request.uri().path(), SVIDS);
                let answer = service_fn(|request: Request<SvidsRequest>| async move {
                    let first = Ok::<_, Status>(svids(&request.into_inner()));
                    Ok::<_, Status>(Response::new(stream::iter([first]).chain(stream::pending())))
                });
                let mut grpc = Grpc::new(ProstCodec::<Svids, SvidsRequest>::default());
                Ok::<_, Infallible>(grpc.server_streaming(answer, request).await)
            });
            let connection = http2::Builder::new(TokioExecutor::new());
            // A client that goes ends it.
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn svids(asked: &SvidsRequest) -> Svids {
    let fits = asked.selectors.iter().any(|selector| selector.value == LABEL);
    let id = SpiffeId { trust_domain: "mesh.test".to_owned(), path: "/ns/shop/sa/cart".to_owned() };
    let svid = Svid { cert_chain: Vec::new(), id: Some(id) };
    let svid = SvidWithKey { x509_svid: Some(svid), x509_svid_key: Vec::new() };
    Svids { x509_svids: fits.then_some(svid).into_iter().collect() }
}

fn unlabelled(name: &str) -> Arc<Workload> {
    let mut workload = Workload::clone(&workload(name, None));
    workload.labels.clear();
    Arc::new(workload)
}

#[tokio::test]
async fn agent_is_asked_anew_when_what_it_was_told_is_not_true_any_more_and_when_more_may_fit() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    tokio::spawn(agent(UnixListener::bind(&socket).unwrap()));
    let workloads = watch::Sender::new(vec![workload("cart-1", None)]);
    let wanted = Wanted { identity: cart(), workloads: workloads.subscribe() };
    let mut source = Source::new(Arc::<Path>::from(socket), wanted, watch::Sender::new(None).subscribe());
    assert!(source.subscribe().await.is_ok());

    let still = Duration::from_millis(100);
    workloads.send_modify(|workloads| workloads.push(workload("cart-2", None)));
    assert!(timeout(still, source.changed()).await.is_err(), "what was told is as true as before");

    let soon = Duration::from_secs(60);
    workloads.send_replace(vec![unlabelled("cart-1"), unlabelled("cart-2")]);
    timeout(soon, source.changed()).await.expect("a label is gone");
    let error = source.subscribe().await.map(drop).unwrap_err();
    assert!(report(&error).contains("no entry for spiffe://mesh.test/ns/shop/sa/cart"), "{error}");

    workloads.send_replace(vec![unlabelled("cart-1"), workload("cart-2", None)]);
    timeout(soon, source.changed()).await.expect("it may fit now");
    assert!(source.subscribe().await.is_ok());
}
