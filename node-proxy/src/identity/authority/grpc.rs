//! gRPC as both remote sources speak it: one call of one method, its messages encoded by prost.
//!
//! Runs on the thread that calls it: a channel that a cell made is driven by that cell's own loop, so that an answer with a
//! key in it is in no other thread's memory.

use std::{error::Error, io};

use http::uri::PathAndQuery;
use prost::Message;
use tonic::{Request, Status, Streaming, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use super::{AuthorityError, retry::report};

/// One question, one answer.
pub(super) async fn ask<Q, A>(
    channel: Channel,
    method: &'static str,
    question: Request<Q>,
) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut client = ready(channel).await?;
    let codec = ProstCodec::<Q, A>::default();
    Ok(client.unary(question, PathAndQuery::from_static(method), codec).await?.into_inner())
}

/// One question, answers without end.
pub(super) async fn subscribe<Q, A>(
    channel: Channel,
    method: &'static str,
    question: Q,
) -> Result<Streaming<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut client = ready(channel).await?;
    let codec = ProstCodec::<Q, A>::default();
    let answers = client.server_streaming(Request::new(question), PathAndQuery::from_static(method), codec);
    Ok(answers.await?.into_inner())
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    Ok(client)
}

/// A status that says nothing about us: the other end is away, or cannot answer now.
pub(super) fn unavailable(status: &Status) -> AuthorityError {
    let causes = status.source().map(report).filter(|causes| !causes.is_empty());
    let text = if status.message().is_empty() { status.code().description() } else { status.message() };
    AuthorityError::Unavailable(match causes {
        Some(causes) if causes != text => format!("{text}: {causes}"),
        _ => text.to_owned(),
    })
}

/// The operating system's error below this one, if one is.
pub(super) fn system_error(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}
