//! The connection to the authority: TLS 1.3 over TCP, the server known by its DNS name and the mesh's root.

use std::{io, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::Options;
use crate::identity::authority::{
    AuthorityError,
    dial::{self, Server},
    retry::report,
};

/// Made when it is first used; the root is read again with every connection.
pub(super) fn channel(options: &Arc<Options>) -> Result<Channel, AuthorityError> {
    let uri = Uri::builder()
        .scheme("https")
        .authority(options.address.to_string())
        .path_and_query("/")
        .build()
        .map_err(|error| AuthorityError::Unavailable(error.to_string()))?;
    let options = Arc::clone(options);
    let connector = service_fn(move |_| {
        let options = Arc::clone(&options);
        async move { dial(&options).await.map(TokioIo::new).map_err(|error| io::Error::other(report(&error))) }
    });
    Ok(Endpoint::from(uri).connect_with_connector_lazy(connector))
}

/// Connects and shakes hands.
pub(super) async fn dial(options: &Options) -> Result<TlsStream<TcpStream>, AuthorityError> {
    dial::dial(Server {
        address: &options.address,
        name: options.server_name.as_deref(),
        root: &options.root,
        remedy: "mount the ConfigMap istio-ca-root-cert there, or name the authority's root with --istio-root",
        certificate: None,
    })
    .await
}
