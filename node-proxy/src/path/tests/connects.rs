//! What is said when a stream of a tunnel is opened, as a peer that only listens sees it on the wire; and what is answered to
//! whoever says it well, badly, or without being let in.

use std::{collections::BTreeMap, net::IpAddr};

use ::http::{HeaderMap, Method, Request, Response, StatusCode, request, response};
use bytes::Bytes;
use config::{
    model::{Action, AuthorizationPolicy, AuthorizationRule, Clause, ConnectionMatch, Scope, TextMatch},
    name::PolicyName,
};
use h2::{SendStream, client::SendRequest};
use tokio_rustls::TlsAcceptor;

use super::{
    tunnels::{Pair, named, own_address},
    world::Made,
    *,
};
use crate::{
    hbone::fields::TraceId, identity::testing::TestAuthority, snapshot::policies::InboundPolicy,
    upstream::connect::Kernel,
};

/// A caller's cell, and a peer that has the callee's certificate and is none of ours.
struct Recorder {
    caller: World,
    callee: World,
    ip: IpAddr,
}

impl Recorder {
    fn new(label: impl FnOnce(&mut config::model::Workload)) -> Self {
        Self::at(hbone::Site::default(), label)
    }

    /// With the caller in this cluster.
    fn at(site: hbone::Site, label: impl FnOnce(&mut config::model::Workload)) -> Self {
        let authority = TestAuthority::new();
        let of = |workload| Made { workload, connect: Rc::new(Kernel), identity: authority.sources() };
        let mut ours = named("caller", "127.0.0.1".parse().unwrap());
        label(&mut ours);
        let ip = own_address();
        let (caller, callee) = (World::at(site, of(ours)), World::of(of(named("callee", ip)), |_| ()));
        caller.know(&[named("callee", ip)]);
        Self { caller, callee, ip }
    }

    /// The head of the first CONNECT of the next tunnel, which is answered with this status.
    async fn record(&self, listener: &TcpListener, status: StatusCode) -> request::Parts {
        let (socket, _) = listener.accept().await.unwrap();
        let config = self.callee.cell.credentials.server(&self.callee.tree.workload.identity).await.unwrap();
        let tls = TlsAcceptor::from(config).accept(socket).await.unwrap();
        let mut http = h2::server::handshake(tls).await.unwrap();
        let (request, mut respond) = http.accept().await.unwrap().unwrap();
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        let _stream = respond.send_response(answer, status != StatusCode::OK).unwrap();
        let (head, _body) = request.into_parts();
        // As long as the answer takes to leave, and the caller to make something of it.
        let _end = timeout(Duration::from_millis(200), http.accept()).await;
        head
    }

    async fn listen(&self) -> TcpListener {
        TcpListener::bind((self.ip, hbone::PORT)).await.unwrap()
    }
}

/// Names and values, each once.
fn fields(headers: &HeaderMap) -> BTreeMap<&str, &str> {
    assert_eq!(headers.len(), headers.keys_len(), "one of each: {headers:?}");
    headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
}

#[test]
fn a_connect_says_where_it_goes_and_for_whom_and_nothing_else() {
    on_a_cell(async {
        let recorder = Recorder::new(|ours| {
            ours.labels.insert("app".to_owned(), "front".to_owned());
            ours.labels.insert("version".to_owned(), "v2".to_owned());
        });
        let listener = recorder.listen().await;
        let target = SocketAddr::new(recorder.ip, 7000);
        let mut traces = Vec::new();
        for _ in 0..2 {
            let (client, head) =
                tokio::join!(recorder.caller.dial(target), recorder.record(&listener, StatusCode::OK));
            assert_eq!((&head.method, head.uri.to_string()), (&Method::CONNECT, target.to_string()));
            assert_eq!((head.uri.scheme(), head.uri.path_and_query()), (None, None));
            let fields = fields(&head.headers);
            assert_eq!(fields.keys().copied().collect::<Vec<_>>(), ["baggage", "forwarded", "traceparent"]);
            assert_eq!(
                fields["baggage"],
                "k8s.namespace.name=shop,k8s.pod.name=caller,service.name=front,service.version=v2"
            );
            assert_eq!(fields["forwarded"], format!("for=\"{}\"", client.local_addr().unwrap()));
            assert!(TraceId::parse(fields["traceparent"]).is_some(), "{fields:?}");
            traces.push(fields["traceparent"].to_owned());
            // Its tunnel goes with it.
            drop(client);
            recorder.caller.cell.tunnels.retire(|_| true);
        }
        assert_ne!(traces[0], traces[1]);
    });
}

#[test]
fn a_connect_for_a_service_names_it_and_goes_to_the_endpoint() {
    on_a_cell(async {
        let recorder = Recorder::new(|_| ());
        let listener = recorder.listen().await;
        let endpoint = SocketAddr::new(recorder.ip, 7000);
        let vip = recorder.caller.service(AppProtocol::Tcp, &[endpoint]);
        let (client, head) =
            tokio::join!(recorder.caller.dial(vip), recorder.record(&listener, StatusCode::OK));
        assert_eq!(head.uri.to_string(), endpoint.to_string());
        let expected =
            format!("for=\"{}\";host=service-1.shop.svc.cluster.local", client.local_addr().unwrap());
        assert_eq!(fields(&head.headers)["forwarded"], expected);
    });
}

#[test]
fn a_connect_is_from_the_cluster_and_to_the_domain_that_the_daemon_was_told() {
    on_a_cell(async {
        let site =
            hbone::Site { cluster: Some("east-1".to_owned()), domain: "mesh.example".try_into().unwrap() };
        let recorder = Recorder::at(site, |_| ());
        let listener = recorder.listen().await;
        let vip = recorder.caller.service(AppProtocol::Tcp, &[SocketAddr::new(recorder.ip, 7000)]);
        let (client, head) =
            tokio::join!(recorder.caller.dial(vip), recorder.record(&listener, StatusCode::OK));
        let fields = fields(&head.headers);
        let expected = "k8s.cluster.name=east-1,k8s.namespace.name=shop,k8s.pod.name=caller";
        assert_eq!(fields["baggage"], expected);
        let from = client.local_addr().unwrap();
        assert_eq!(fields["forwarded"], format!("for=\"{from}\";host=service-1.shop.svc.mesh.example"));
    });
}

#[test]
fn connects_to_one_endpoint_after_another_are_of_one_trace() {
    on_a_cell(async {
        let recorder = Recorder::new(|_| ());
        let listener = recorder.listen().await;
        let endpoints = [7000, 7001].map(|port| SocketAddr::new(recorder.ip, port));
        let vip = recorder.caller.service(AppProtocol::Tcp, &endpoints);
        let both = async {
            let unavailable = StatusCode::SERVICE_UNAVAILABLE;
            let first = recorder.record(&listener, unavailable).await;
            recorder.caller.cell.tunnels.retire(|_| true);
            (first, recorder.record(&listener, StatusCode::OK).await)
        };
        let (_client, (first, second)) = tokio::join!(recorder.caller.dial(vip), both);
        let said = [&first, &second].map(|head| fields(&head.headers)["traceparent"]);
        assert_eq!(TraceId::of(&first.headers), TraceId::of(&second.headers), "{said:?}");
        assert_ne!(said[0], said[1], "each is a step of its own");
    });
}

#[test]
fn any_answer_but_200_is_a_refusal_with_the_reason_that_its_status_has() {
    on_a_cell(async {
        let recorder = Recorder::new(|_| ());
        let listener = recorder.listen().await;
        let target = SocketAddr::new(recorder.ip, 7000);
        for (status, reason) in [
            (StatusCode::UNAUTHORIZED, Reason::PeerDenied),
            (StatusCode::FORBIDDEN, Reason::PeerDenied),
            (StatusCode::SERVICE_UNAVAILABLE, Reason::PeerUnavailable),
            (StatusCode::BAD_REQUEST, Reason::PeerRefused),
            (StatusCode::NOT_FOUND, Reason::PeerRefused),
            (StatusCode::CREATED, Reason::PeerRefused),
            (StatusCode::NO_CONTENT, Reason::PeerRefused),
            (StatusCode::INTERNAL_SERVER_ERROR, Reason::PeerRefused),
        ] {
            let before = recorder.caller.cell.ledger.refusals(reason);
            let (mut client, _head) =
                tokio::join!(recorder.caller.dial(target), recorder.record(&listener, status));
            assert!(reads_reset(&mut client).await, "{status}");
            assert_eq!(recorder.caller.cell.ledger.refusals(reason), before + 1, "{status}");
            recorder.caller.cell.tunnels.retire(|_| true);
        }
    });
}

/// A CONNECT with these fields, what is answered, and the stream.
async fn ask(
    send: &mut SendRequest<Bytes>,
    target: SocketAddr,
    fields: &[(&str, &[u8])],
) -> (response::Parts, SendStream<Bytes>) {
    let mut request = Request::builder().method(Method::CONNECT).uri(target.to_string());
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (response, stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let (head, _body) = response.await.unwrap().into_parts();
    (head, stream)
}

#[test]
fn what_a_peer_says_of_itself_opens_and_closes_nothing_however_broken_it_is() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let mut send = pair.by_hand().await;
        let long = vec![b'a'; 10 << 10];
        let table: &[&[(&str, &[u8])]] = &[
            &[],
            &[
                ("baggage", b"k8s.namespace.name=shop"),
                ("forwarded", b"for=\"127.0.0.1:9\""),
                ("traceparent", b"x"),
            ],
            &[("baggage", b"=,,;=;"), ("forwarded", b"for="), ("traceparent", b"")],
            &[("baggage", b"\xff\xfe\x80"), ("forwarded", b"\xff;for=\xff"), ("traceparent", b"\xff")],
            &[("baggage", &long), ("forwarded", &long), ("traceparent", &long)],
            &[("forwarded", b"for=10.9.9.9:1"), ("forwarded", b"for=10.9.9.8:1")],
            &[("traceparent", b"00-00000000000000000000000000000000-0000000000000000-00")],
            &[("x-forwarded-network", b"other"), ("x-istio-source", b"waypoint")],
        ];
        let mut held = Vec::new();
        for fields in table {
            let (head, stream) = ask(&mut send, pair.address, fields).await;
            assert_eq!(head.status, StatusCode::OK, "{fields:?}");
            assert_eq!(head.headers["baggage"], "k8s.namespace.name=shop,k8s.pod.name=callee", "{fields:?}");
            assert_eq!(head.headers.len(), 1, "{:?}", head.headers);
            held.push(stream);
        }
        // Nor does it make anybody of another address.
        let mut clients = Vec::new();
        pair.callee.cell.live.each(|live| clients.push(live.describe().client.ip()));
        assert_eq!(clients.len(), 1 + table.len(), "the tunnel, and each stream");
        assert!(clients.iter().all(|ip| ip.is_loopback()), "{clients:?}");
        drop(held);
        assert!(Reason::ALL.iter().all(|reason| {
            let its = pair.callee.cell.ledger.refusals(*reason);
            its == 0 || *reason == Reason::ClientClosed
        }));
    });
}

#[test]
fn a_stream_that_policy_denies_is_answered_401_and_only_by_who_asks() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let only = |account: &str| {
            let text = TextMatch::Exact(format!("cluster.local/ns/shop/sa/{account}"));
            let from = ConnectionMatch { principals: vec![text], ..ConnectionMatch::default() };
            let policy = AuthorizationPolicy {
                name: PolicyName::new("shop".try_into().unwrap(), "only".try_into().unwrap()),
                scope: Scope::Mesh,
                action: Action::Allow,
                rules: vec![AuthorizationRule { clauses: vec![Clause { any: vec![from] }] }],
            };
            InboundPolicy { allow: vec![Arc::new(policy)], ..InboundPolicy::default() }
        };
        let mut send = pair.by_hand().await;
        // Says that it is whom the policy asks for; its certificate does not.
        let claims: &[(&str, &[u8])] = &[("baggage", b"k8s.namespace.name=shop,k8s.pod.name=somebody")];
        for (account, expected) in [("somebody", StatusCode::UNAUTHORIZED), ("caller", StatusCode::OK)] {
            pair.callee.inbound_policy.replace(Arc::new(only(account)));
            pair.callee.limit(Egress::Any);
            let (head, _stream) = ask(&mut send, pair.address, claims).await;
            assert_eq!(head.status, expected, "only {account} may");
        }
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::NoPolicyAllows), 1);
    });
}
