//! Namespace: its name. It grants no membership: labels on it are never read (design: "Vocabulary").

use super::Context;
use crate::{document::Node, name::Namespace};

pub(super) fn lower(context: &mut Context<'_>, root: &Node) -> Option<Namespace> {
    context.name(root.at_path(&["metadata", "name"])?)
}
