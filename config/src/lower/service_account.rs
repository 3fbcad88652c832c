//! ServiceAccount: that it exists. Tokens and pull secrets are the kubelet's.

use super::{Context, Draft};
use crate::{document::Node, name::ServiceAccount};

pub(super) fn lower(context: &mut Context<'_>, root: &Node) -> Option<Draft> {
    context.name::<ServiceAccount>(root.at_path(&["metadata", "name"])?)?;
    Some(Draft::ServiceAccount)
}
