//! What the tables of docs/concepts/ownership.md have somebody write, and what the page says comes of it. Shared by the test
//! of what is told about it (this crate's) and the one of what compiled snapshots make of it (node-proxy,
//! control/compile/tests/ownership.rs).
//!
//! It must never say itself what anything changes: that is the page's word, which both tests hold to the truth.

use std::collections::BTreeSet;

pub(crate) mod hostile;
pub(crate) mod objects;
pub(crate) mod page;
pub(crate) mod scene;

use self::scene::{NAMESPACES, Text, tenant_of};

/// Somebody writes something.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// As the page has it.
    pub(crate) name: String,
    /// The namespace that what is written is of.
    pub(crate) of: &'static str,
    /// What is there besides the scene.
    pub(crate) given: Vec<Text>,
    /// What is written then: new files, or other texts for those that are there.
    pub(crate) said: Vec<Text>,
    /// By the page, what turns out otherwise for whom; and nothing else does.
    pub(crate) changes: BTreeSet<Part>,
    /// By the page, what is told: all findings are like one of these, and each of these is told.
    pub(crate) told: Vec<page::Told>,
}

/// A part of what connections of a namespace's pods meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) of: &'static str,
    pub(crate) what: What,
}

/// What may turn out otherwise for a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// What comes to its pods, and who they are.
    Pods,
    /// What its pods call in a namespace: its Services and its pods.
    Calls(&'static str),
    /// What its pods call outside the mesh.
    Outside,
}

/// The parts that the page means by its words, of what a namespace writes about `calls`.
pub(crate) fn parts(words: &str, of: &'static str, calls: &[What]) -> BTreeSet<Part> {
    let all = || NAMESPACES.into_iter();
    let itself = move || std::iter::once(of);
    let of_tenant = || all().filter(|other| tenant_of(other) == tenant_of(of));
    let pods = |whose: &mut dyn Iterator<Item = &'static str>| -> Vec<Part> {
        whose.map(|of| Part { of, what: What::Pods }).collect()
    };
    let calls = |whose: &mut dyn Iterator<Item = &'static str>| -> Vec<Part> {
        whose.flat_map(|of| calls.iter().map(move |what| Part { of, what: *what })).collect()
    };
    let meant = |word: &str| match word {
        "nobody" | "refused" => Vec::new(),
        "its pods" => pods(&mut itself()),
        "all pods" => pods(&mut all()),
        "its calls" => calls(&mut itself()),
        "its tenant's calls" => calls(&mut of_tenant()),
        "all calls" => calls(&mut all()),
        other => panic!("the page says whom it changes in other words: {other:?}"),
    };
    words.split(", ").flat_map(meant).collect()
}

/// Every cell of both tables.
pub(crate) fn cases() -> Vec<Case> {
    objects::cases().into_iter().chain(hostile::cases()).collect()
}
