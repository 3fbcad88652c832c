//! Istio's certificate service, beside the mesh on one port: from the wire to the [authority](crate::control::kubernetes::Authority),
//! which decides, and back.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::{Status, body::Body, server::Grpc};
use tonic_prost::ProstCodec;

use super::{
    activity::{Activity, OpenStream},
    prove,
};
use crate::{
    control::kubernetes::{Asked, Authority},
    identity::authority::istio::wire,
};

/// Who asks, as the connection says it.
#[derive(Debug, Clone, Copy)]
pub(super) struct From {
    /// `None` on a Unix socket.
    pub(super) address: Option<IpAddr>,
    /// Whether nobody on the way reads along.
    pub(super) secure: bool,
}

/// One call of `CreateCertificate`.
pub(super) async fn answer(
    request: Request<Incoming>,
    authority: Arc<Authority>,
    activity: Arc<Activity>,
    from: From,
) -> Result<Response<Body>, Infallible> {
    let _open = OpenStream::new(activity);
    let create = tower::service_fn(move |request: tonic::Request<wire::Request>| {
        let authority = Arc::clone(&authority);
        async move {
            let (metadata, _, asked) = request.into_parts();
            let asked = Asked {
                token: prove::bearer(metadata.as_ref()),
                impersonated: asked.metadata.as_ref().and_then(wire::Struct::impersonated),
                request: &asked.csr,
                lifetime: asked.validity_duration,
                from: from.address,
                secure: from.secure,
            };
            let cert_chain = authority.create(asked).await.map_err(Status::from)?;
            Ok::<_, Status>(tonic::Response::new(wire::Response { cert_chain }))
        }
    });
    let mut grpc = Grpc::new(ProstCodec::<wire::Response, wire::Request>::default())
        .max_decoding_message_size(LARGEST_REQUEST);
    Ok(grpc.unary(create, request).await)
}

/// Bytes of a request: a signing request, an identity and some words.
const LARGEST_REQUEST: usize = 32 << 10;
