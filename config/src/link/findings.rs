//! What is said about objects together, by who says it: what is made anew takes back what it had said, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Finding, ObjectRef};

/// What is said of all objects, in the order of stages.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    by: BTreeMap<Maker, Vec<Finding>>,
    maker: Maker,
    /// Of which objects something was said, or taken back.
    told: BTreeSet<ObjectRef>,
}

/// At which stage something is said. Their order is that of what is said about one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Of namespaces, tenants and budgets, which are never made in part.
    #[default]
    Base,
    /// When an object is placed.
    Placed,
    /// When a Service is filled.
    Filled,
    /// When something stands in for an object.
    StoodIn,
    /// When a pod is compared with the policies of the mesh.
    Plaintext,
}

/// Who says it: a stage, about to do one object.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Maker(Stage, Option<ObjectRef>);

impl Findings {
    /// What is said from now on is of this stage, and of this object's place in it; what was said there before is taken back.
    pub(super) fn begin(&mut self, stage: Stage, object: &ObjectRef) {
        if stage == Stage::Base {
            return self.begin_base();
        }
        self.withdraw(stage, object);
        self.maker = Maker(stage, Some(object.clone()));
    }

    pub(super) fn begin_base(&mut self) {
        self.maker = Maker::default();
    }

    pub(super) fn withdraw(&mut self, stage: Stage, object: &ObjectRef) {
        if self.by.is_empty() {
            return;
        }
        let withdrawn = self.by.remove(&Maker(stage, Some(object.clone()))).unwrap_or_default();
        self.told.extend(withdrawn.into_iter().filter_map(|finding| finding.object));
    }

    pub(super) fn push(&mut self, finding: Finding) {
        self.told.extend(finding.object.clone());
        self.by.entry(self.maker.clone()).or_default().push(finding);
    }

    /// All of it.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Finding> {
        self.by.values().flatten()
    }

    /// Of which objects something was said, or taken back, since this was asked last.
    pub(super) fn take_told(&mut self) -> BTreeSet<ObjectRef> {
        std::mem::take(&mut self.told)
    }
}
