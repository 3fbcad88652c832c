//! Where a tunnel's streams may lead, by raw HTTP/2 against the accepting half: into the pod that it came to, or nowhere.

use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use config::name::ServiceName;
use h2::client::SendRequest;

use super::{
    tunnels::{Pair, named},
    *,
};
use crate::snapshot::Answers;

async fn status(send: &mut SendRequest<Bytes>, method: Method, target: &str) -> StatusCode {
    let request = Request::builder().method(method).uri(target).body(()).unwrap();
    let (response, _stream) = send.send_request(request, false).unwrap();
    response.await.unwrap().status()
}

#[test]
fn streams_that_are_for_nobody_here_get_the_status_that_says_so() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let mut send = pair.by_hand().await;
        let ip = pair.address.ip();
        let table: &[(Method, String, StatusCode)] = &[
            (Method::CONNECT, "127.0.0.1:80".to_owned(), StatusCode::BAD_REQUEST),
            (Method::CONNECT, "cart.shop.svc:80".to_owned(), StatusCode::SERVICE_UNAVAILABLE),
            (Method::CONNECT, format!("{ip}:15008"), StatusCode::SERVICE_UNAVAILABLE),
            (Method::CONNECT, format!("{ip}:1"), StatusCode::SERVICE_UNAVAILABLE),
            (Method::GET, format!("https://{}/", pair.address), StatusCode::BAD_REQUEST),
            (Method::CONNECT, pair.address.to_string(), StatusCode::OK),
        ];
        for (method, target, expected) in table {
            let status = status(&mut send, method.clone(), target).await;
            assert_eq!(status, *expected, "{method} {target}");
        }
        let ledger = &pair.callee.cell.ledger;
        assert_eq!(ledger.refusals(Reason::InvalidConnect), 2);
        let reasons = [Reason::ReservedPort, Reason::ConnectRefused, Reason::UnknownHost];
        assert_eq!(reasons.map(|reason| ledger.refusals(reason)), [1, 1, 1]);
    });
}

#[test]
fn a_service_s_name_leads_to_where_the_pod_answers_for_it_and_is_judged_there() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let service = ServiceName::new("shop".try_into().unwrap(), "ledger".try_into().unwrap());
        let answers = [Answers { service, port: 80, at: pair.address.port() }];
        pair.callee.know_answering(&[named("callee", pair.address.ip())], &answers);
        let mut send = pair.by_hand().await;
        let target = "ledger.shop.svc.cluster.local:80";
        let request = Request::builder().method(Method::CONNECT).uri(target).body(()).unwrap();
        let (response, mut stream) = send.send_request(request, false).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        let (mut server, _) = pair.app.accept().await.unwrap();
        stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        let mut destinations = Vec::new();
        pair.callee.cell.live.each(|live| destinations.push(live.origin.destination));
        assert!(destinations.contains(&pair.address), "what policy is asked about: {destinations:?}");
    });
}
