//! Generates client and server of the echo service, and the server of Istio's certificate service, from their descriptions
//! below. No `protoc`: the messages are in `src/grpc.rs` and `src/istio.rs`, and the services are described here.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let echo = Service::builder()
        .name("Echo")
        .package("canopy.testkit")
        .comment("Says back what it was told.")
        .method(method("say", "Say", Streams::Neither))
        .method(method("expand", "Expand", Streams::Server))
        .method(method("collect", "Collect", Streams::Client))
        .method(method("chat", "Chat", Streams::Both))
        .build();
    Builder::new().compile(&[echo]);
    let create = Method::builder()
        .name("create_certificate")
        .route_name("CreateCertificate")
        .comment("See istio/api.")
        .input_type("crate::istio::Wanted")
        .output_type("crate::istio::Issued")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let istio = Service::builder()
        .name("IstioCertificateService")
        .package("istio.v1.auth")
        .comment("Signs certificates.")
        .method(create)
        .build();
    Builder::new().build_client(false).compile(&[istio]);
}

/// Which sides send a stream.
#[derive(PartialEq, Eq)]
enum Streams {
    Neither,
    Server,
    Client,
    Both,
}

fn method(name: &str, route: &str, streams: Streams) -> Method {
    let mut method = Method::builder()
        .name(name)
        .route_name(route)
        .comment(format!("See `{route}` of the service."))
        .input_type("crate::grpc::Words")
        .output_type("crate::grpc::Reply")
        .codec_path("tonic_prost::ProstCodec");
    if matches!(streams, Streams::Client | Streams::Both) {
        method = method.client_streaming();
    }
    if matches!(streams, Streams::Server | Streams::Both) {
        method = method.server_streaming();
    }
    method.build()
}
