//! The client's side of the echo service.

use std::{net::SocketAddr, time::Duration};

use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::{Reply, Words, generated::echo_client::EchoClient};
use crate::{KitError, Pod, block_on};

/// The generated client; its methods are the service's.
pub type Client = EchoClient<Channel>;

/// Why a call gave no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The pod's namespace could not be entered.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// No connection came about.
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// The call ended with a status other than success.
    #[error("{0}")]
    Status(Box<Status>),
}

/// Connects to an echo server. `authority` is what the application would have written in its URL.
///
/// # Errors
/// No connection came about in half a minute.
pub async fn connect(to: SocketAddr, authority: &str) -> Result<Client, CallError> {
    let endpoint = Endpoint::from_shared(format!("http://{to}"))?.connect_timeout(LIMIT).timeout(LIMIT);
    let endpoint = match format!("http://{authority}").parse() {
        Ok(origin) => endpoint.origin(origin),
        Err(_) => endpoint,
    };
    Ok(EchoClient::new(endpoint.connect().await?))
}

/// One unary call from inside a pod, on a connection of its own.
///
/// # Errors
/// No connection, or a status other than success.
pub fn say(from: &Pod, to: SocketAddr, authority: &str, words: Words) -> Result<Reply, CallError> {
    from.run(|| {
        block_on(async {
            let mut client = connect(to, authority).await?;
            let reply = client.say(Request::new(words)).await;
            reply.map(tonic::Response::into_inner).map_err(|status| CallError::Status(Box::new(status)))
        })
    })?
}

const LIMIT: Duration = Duration::from_secs(30);
