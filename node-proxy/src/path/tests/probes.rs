//! Probes that are under way, or do not go on, when connections are to end.

use ::http::{HeaderMap, Request, Response};
use config::model::ProbeCheck;

use super::{
    policy::{healthz, strict},
    *,
};

const FAREWELL: Duration = Duration::from_millis(150);
/// What an HTTP/2 client says first: its preface and SETTINGS of nothing.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const QUESTION: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: app\r\n\r\n";

/// A world whose app may be probed, and takes nothing else in the clear.
async fn probed() -> (World, TcpListener) {
    let world = World::with(|limits| limits.farewell = FAREWELL);
    let server = world.server(AppProtocol::Http1).await;
    world.protect(strict());
    world.probed(server.address.port(), vec![healthz()]);
    (world, server.listener)
}

/// A connection from the node to the app, on which this was said a while ago.
async fn said(world: &World, app: &TcpListener, bytes: &[u8]) -> TcpStream {
    let mut client = world.call(app.local_addr().unwrap()).await;
    client.write_all(bytes).await.unwrap();
    tokio::time::sleep(2 * FAREWELL).await;
    assert_eq!(world.cell.live.len(), 1);
    client
}

#[test]
fn a_probes_connection_without_a_question_is_not_waited_for_when_all_are_to_end() {
    on_a_cell(async {
        for begun in [HELLO, &QUESTION[..20]] {
            let (world, app) = probed().await;
            let _client = said(&world, &app, begun).await;
            world.cell.live.finish_tree(world.tree.id);
            timeout(Duration::from_secs(5), world.emptied(1)).await.expect("it ends");
        }
    });
}

#[test]
fn a_probe_that_is_under_way_is_answered_when_all_are_to_end() {
    on_a_cell(async {
        let (world, app) = probed().await;
        let mut client = said(&world, &app, QUESTION).await;
        let (mut asked, _) = app.accept().await.unwrap();
        world.cell.live.finish_tree(world.tree.id);
        tokio::time::sleep(3 * FAREWELL).await;
        asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nhealthy").await.unwrap();
        let heard = String::from_utf8(read_all(&mut client).await).unwrap();
        assert!(heard.starts_with("HTTP/1.1 200 OK") && heard.ends_with("\r\n\r\n"), "{heard}");
        world.emptied(1).await;
    });
}

/// An app's health by gRPC, with more than that in its answer.
async fn serve_grpc(app: TcpListener) {
    let (socket, _) = app.accept().await.unwrap();
    let mut http = h2::server::handshake(socket).await.unwrap();
    let (request, mut respond) = http.accept().await.unwrap().unwrap();
    assert_eq!(request.uri().path(), CHECK);
    let answer = Response::builder().header("x-secret", "yes").body(()).unwrap();
    let mut send = respond.send_response(answer, false).unwrap();
    send.send_data(bytes::Bytes::from_static(SERVING), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("x-secret", "yes".parse().unwrap());
    send.send_trailers(trailers).unwrap();
    while http.accept().await.is_some() {}
}

#[test]
fn of_an_app_that_is_asked_by_grpc_its_serving_status_goes_back_and_nothing_else() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Http2).await;
        world.protect(strict());
        let check = ProbeCheck::Grpc { service: String::new() };
        world.probed(server.address.port(), vec![check]);
        let socket = world.call(server.address).await;
        tokio::task::spawn_local(serve_grpc(server.listener));
        let (mut send, driver) = h2::client::handshake(socket).await.unwrap();
        tokio::task::spawn_local(driver);
        let request = Request::builder().method("POST").uri(format!("http://app{CHECK}"));
        let (response, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(bytes::Bytes::from_static(&[0; 5]), true).unwrap();
        let response = timeout(Duration::from_secs(20), response).await.unwrap().unwrap();
        assert!(response.status() == 200 && !response.headers().contains_key("x-secret"), "{response:?}");
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let mut body = response.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), SERVING);
        let trailers = body.trailers().await.unwrap().unwrap();
        assert!(trailers.len() == 1 && trailers["grpc-status"] == "0", "{trailers:?}");
    });
}

const CHECK: &str = "/grpc.health.v1.Health/Check";
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
