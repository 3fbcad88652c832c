//! Where each node of a tree stands, as `spec.ports[0].name`; keys with dots or slashes in brackets.
//!
//! Made once for a tree, and only when somebody asks: most objects have nothing to say. A search from the root for every
//! finding would visit all that stands before it, which for a long list of findings is its square.

use std::{collections::HashMap, ptr};

use super::Node;

/// The places of all nodes of a tree.
#[derive(Debug)]
pub(crate) struct Paths<'a> {
    root: &'a Node,
    /// By address: what a node is in, and how it is reached from there.
    steps: HashMap<*const Node, (&'a Node, Step<'a>)>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Item(usize),
    Key(&'a str),
}

impl<'a> Paths<'a> {
    pub(crate) fn of(root: &'a Node) -> Self {
        let mut paths = Self { root, steps: HashMap::new() };
        paths.enter(root);
        paths
    }

    /// The path from the root to a node; empty for one that is not in the tree.
    pub(crate) fn to(&self, node: &Node) -> String {
        let mut steps = Vec::new();
        let mut below: *const Node = node;
        while !ptr::eq(below, self.root) {
            let Some((parent, step)) = self.steps.get(&below) else { return String::new() };
            steps.push(step);
            below = ptr::from_ref(*parent);
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            match step {
                Step::Item(index) => path.push_str(&format!("[{index}]")),
                Step::Key(key) if key.contains(['.', '/']) => path.push_str(&format!("[{key}]")),
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.push_str(&format!(".{key}")),
            }
        }
        path
    }

    /// As deep as documents are, which is bounded.
    fn enter(&mut self, node: &'a Node) {
        let items = node.items().iter().enumerate().map(|(index, item)| (item, Step::Item(index)));
        let values = node.entries().iter().map(|entry| (&entry.node, Step::Key(&entry.key)));
        for (child, step) in items.chain(values) {
            self.steps.insert(ptr::from_ref(child), (node, step));
            self.enter(child);
        }
    }
}
