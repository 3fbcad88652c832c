//! Who asks for the mesh over the network: proven by the token of his pod, as whoever asks for a certificate proves it. A node's daemon reads as
//! that node, a sidecar as nobody's.
//!
//! A token is looked at once for each stream. It must never be logged, and who shows none reads nothing.

use http::{HeaderMap, header};
use tonic::Status;

use super::{certify::From, stream::Proof};
use crate::control::kubernetes::{Callers, Presents, Refusal};

/// As whom somebody reads, or why he is not told the mesh. `peer` is for the log.
pub(super) async fn reader(
    callers: &Callers,
    headers: &HeaderMap,
    from: From,
    peer: &str,
) -> Result<Proof, Status> {
    let shown = Presents { token: bearer(headers), from: from.address, secure: from.secure };
    let proof = callers.node(shown).await.map(|node| node.map_or(Proof::Nothing, Proof::Node));
    proof.map_err(|refusal| {
        let reason = refusal.reason();
        match refusal {
            // Who asks too often is to fill no log.
            Refusal::Rate => tracing::debug!(peer, reason, "a node is not told the mesh"),
            _ => tracing::info!(peer, reason, "a node is not told the mesh: {refusal}"),
        }
        refusal.into()
    })
}

/// The token of a head.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
