//! Namespace: its name and its labels. They say how its pods are treated and who selects it; they grant no
//! membership in a tenant (design: "Vocabulary").

use serde::{Deserialize, Serialize};

use super::{Context, Place, metadata};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::NamespaceFacts,
    name::Namespace,
};

/// The label by which selectors name one namespace; every cluster gives it to every namespace.
const OWN_NAME: &str = "kubernetes.io/metadata.name";

/// A namespace whose tenant is not known yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NamespaceDraft {
    pub(crate) facts: NamespaceFacts,
    /// Where it takes its pods out of the mesh, if it does.
    pub(crate) off_place: Option<Place>,
}

pub(super) fn lower(context: &mut Context<'_>, root: &Node) -> Option<NamespaceDraft> {
    let name: Namespace = context.name(root.at_path(&["metadata", "name"])?)?;
    let labels = metadata::texts(root.at_path(&["metadata", "labels"]));
    metadata::check_mode(context, root, "namespace");
    metadata::check_on_failure(context, root);
    check_own_name(context, root, &name);
    let mode = root.at_path(&["metadata", "labels", metadata::MODE]);
    let off = mode.filter(|node| node.text() == Some(metadata::MODE_OFF));
    let off_place = off.map(|node| context.place(node));
    Some(NamespaceDraft { facts: with_own_name(NamespaceFacts { name, labels }), off_place })
}

/// What is known of a namespace that nobody describes.
pub(crate) fn undescribed(name: Namespace) -> NamespaceFacts {
    with_own_name(NamespaceFacts { name, labels: Default::default() })
}

fn with_own_name(mut facts: NamespaceFacts) -> NamespaceFacts {
    // Not what the manifest says: it could pass for another namespace.
    facts.labels.insert(OWN_NAME.to_owned(), facts.name.to_string());
    facts
}

fn check_own_name(context: &mut Context<'_>, root: &Node, name: &Namespace) {
    let said = root.at_path(&["metadata", "labels", OWN_NAME]);
    if let Some(node) = said.filter(|node| node.text() != Some(name.as_str())) {
        let message =
            format!("not obeyed: in every cluster this label is the namespace's own name, {name}: remove it");
        context.note(Severity::Warning, Reason::NotPermitted, node, message);
    }
}
