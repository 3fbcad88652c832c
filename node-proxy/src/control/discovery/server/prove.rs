//! Which node asks for the mesh over the network: proven by the token of its daemon's pod, as whoever asks for a certificate proves it.
//!
//! A token is looked at once for each stream. It must never be logged, and who shows none reads nothing.

use config::name::NodeName;
use http::{HeaderMap, header};
use tonic::Status;

use super::certify::From;
use crate::control::kubernetes::{Callers, Presents, Refusal};

/// The node whose daemon asks, or why it is not told the mesh. `peer` is for the log.
pub(super) async fn node(
    callers: &Callers,
    headers: &HeaderMap,
    from: From,
    peer: &str,
) -> Result<NodeName, Status> {
    let shown = Presents { token: bearer(headers), from: from.address, secure: from.secure };
    callers.node(shown).await.map_err(|refusal| {
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
