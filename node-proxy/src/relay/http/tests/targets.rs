//! What a request is addressed to and how far it goes: targets, hosts, user information, hops.

use super::support::{Bench, Endpoint1, local};
use crate::cell::Limits;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_target_is_written_as_an_origin_server_reads_it() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        bench
            .exchange("GET http://other:81/a?b HTTP/1.1\r\nhost: ignored\r\nconnection: close\r\n\r\n")
            .await;
        assert_eq!(endpoint.heard(), "GET /a?b HTTP/1.1\r\nhost: other:81\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn a_client_of_http_1_0_need_not_name_a_host() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let answer = bench.exchange("GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.contains(" 200 "), "{answer}");
        let heard = endpoint.heard();
        assert!(heard.starts_with("GET / HTTP/1.1\r\nhost: ") && heard.contains(":80\r\n"), "{heard}");
    })
    .await;
}

#[tokio::test]
async fn user_information_is_refused_and_its_password_not_logged() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let (bench, log) = Bench::logging(&[endpoint.at()], Limits::default());
        let answer = bench.exchange("GET http://u:secret@evil/ HTTP/1.1\r\nhost: evil\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        let lines = log.lines(&bench);
        assert_eq!(lines[0]["reason"], "protocol_error");
        assert!(!lines[0].to_string().contains("secret"), "{lines:#?}");
        assert_eq!(endpoint.heard(), "");
    })
    .await;
}

#[tokio::test]
async fn trace_goes_as_far_as_its_sender_wants() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let trace = |left: u8| {
            format!("TRACE / HTTP/1.1\r\nhost: a\r\nmax-forwards: {left}\r\nconnection: close\r\n\r\n")
        };
        let answer = bench.exchange(&trace(0)).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        bench.exchange(&trace(5)).await;
        assert_eq!(endpoint.heard(), "TRACE / HTTP/1.1\r\nhost: a\r\nmax-forwards: 4\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn chunks_of_chunks_are_refused_however_they_are_written() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        for coding in ["chunked, chunked", "chunked\r\ntransfer-encoding: chunked"] {
            let request =
                format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
            let answer = bench.exchange(&request).await;
            assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 501"), "{answer}");
        }
        assert_eq!(endpoint.heard(), "");
    })
    .await;
}
