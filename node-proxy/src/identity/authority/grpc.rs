//! gRPC as the remote sources and discovery speak it: one call of one method, its messages encoded by prost.
//!
//! Runs on the thread that calls it: a channel that a cell made is driven by that cell's own loop, so that an answer with a
//! key in it is in no other thread's memory.

use std::{error::Error, fs, io, path::Path};

use futures_util::Stream;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
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

/// Questions and answers, both without end; no answer may be larger than so many bytes.
pub(crate) async fn converse<Q, A>(
    channel: Channel,
    method: &'static str,
    questions: Request<impl Stream<Item = Q> + Send + 'static>,
    largest: usize,
) -> Result<Streaming<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut client = ready(channel).await?.max_decoding_message_size(largest);
    let codec = ProstCodec::<Q, A>::default();
    Ok(client.streaming(questions, PathAndQuery::from_static(method), codec).await?.into_inner())
}

/// The token that is in a file now, as gRPC carries it; never printed. `remedy` says what to do where there is none.
pub(crate) fn bearer(file: &Path, remedy: &str) -> Result<MetadataValue<Ascii>, AuthorityError> {
    let setup = |problem: String| AuthorityError::Setup {
        problem: format!("{}: {problem}", file.display()),
        remedy: remedy.to_owned(),
    };
    let metadata = fs::metadata(file).map_err(|error| setup(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > LARGEST_TOKEN {
        return Err(setup("it is not a file with a token".to_owned()));
    }
    let token = fs::read_to_string(file).map_err(|error| setup(error.to_string()))?;
    let token = token.trim();
    if token.is_empty() {
        return Err(setup("it is empty".to_owned()));
    }
    let value = MetadataValue::try_from(format!("Bearer {token}"));
    let mut value = value.map_err(|_| setup("it is not a token".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

pub(crate) async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    Ok(client)
}

/// A status that says nothing about us: the other end is away, or cannot answer now.
pub(super) fn unavailable(status: &Status) -> AuthorityError {
    AuthorityError::Unavailable(reason(status))
}

/// What a status says, with its causes.
pub(crate) fn reason(status: &Status) -> String {
    let causes = status.source().map(report).filter(|causes| !causes.is_empty());
    let text = if status.message().is_empty() { status.code().description() } else { status.message() };
    match causes {
        Some(causes) if causes != text => format!("{text}: {causes}"),
        _ => text.to_owned(),
    }
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

/// A token that is larger is none.
const LARGEST_TOKEN: u64 = 64 * 1024;
