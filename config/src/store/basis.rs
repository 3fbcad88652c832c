//! What is in force, as far as the next files are judged by it: the version of each object, and what stands in for some.
//!
//! Shared with the store it is of, so that having it costs nothing; and of bytes, so that another process can tell what files would
//! do before they are applied. It must never change what is in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Options, Store};
use crate::{
    finding::{ObjectRef, Position},
    link::Versions,
    lower::{Draft, Lowered},
    model::Mesh,
};

/// What is in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct Basis {
    /// The version of each object that the mesh is made of.
    pub(super) good: Arc<Versions>,
    /// What stands in for objects that never had a good one.
    pub(super) stood_in: Arc<BTreeMap<ObjectRef, Arc<Lowered>>>,
    /// Those of it that stand in for parts of which nothing but signs is left.
    pub(super) of_parts: Arc<BTreeSet<ObjectRef>>,
    /// Whether there are policies that only the cluster's network can evaluate.
    pub(super) unevaluated: bool,
}

/// Where an object is written that is in force, or that something stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written<'a> {
    /// The file.
    pub file: &'a Path,
    /// Where in it.
    pub at: Position,
}

impl Basis {
    /// Where an object is written.
    pub fn written(&self, object: &ObjectRef) -> Option<Written<'_>> {
        let version = self.good.get(object).or_else(|| self.stood_in.get(object))?;
        Some(Written { file: &version.file, at: version.at })
    }

    /// Everything that is in force.
    pub(crate) fn objects(&self) -> &Versions {
        &self.good
    }
}

impl Store {
    /// A store that goes on from what is in force elsewhere: it makes of the next files what that one would.
    pub fn resume(options: Options, mesh: Arc<Mesh>, basis: Basis) -> Self {
        Self { basis, mesh, ..Self::new(options) }
    }
}

/// As bytes of any form, which have no maps with other keys than texts.
#[derive(Clone, Serialize, Deserialize)]
struct Wire {
    good: Vec<Version>,
    stood_in: Vec<Version>,
    of_parts: Vec<Name>,
    unevaluated: bool,
}

/// Kind, namespace, name.
type Name = (String, Option<String>, String);

#[derive(Clone, Serialize, Deserialize)]
struct Version {
    object: Name,
    file: String,
    at: Position,
    created: Option<i64>,
    weight: u64,
    draft: Draft,
}

impl From<Basis> for Wire {
    fn from(basis: Basis) -> Self {
        let version = |version: &Arc<Lowered>| Version::from(&**version);
        Self {
            good: basis.good.values().map(version).collect(),
            stood_in: basis.stood_in.values().map(version).collect(),
            of_parts: basis.of_parts.iter().map(name).collect(),
            unevaluated: basis.unevaluated,
        }
    }
}

impl From<Wire> for Basis {
    fn from(wire: Wire) -> Self {
        let named = |version: Version| {
            let version = Arc::new(Lowered::from(version));
            (version.object.clone(), version)
        };
        Self {
            good: Arc::new(wire.good.into_iter().map(named).collect()),
            stood_in: Arc::new(wire.stood_in.into_iter().map(named).collect()),
            of_parts: Arc::new(wire.of_parts.into_iter().map(object).collect()),
            unevaluated: wire.unevaluated,
        }
    }
}

impl From<&Lowered> for Version {
    fn from(lowered: &Lowered) -> Self {
        Self {
            object: name(&lowered.object),
            file: lowered.file.to_string_lossy().into_owned(),
            at: lowered.at,
            created: lowered.created,
            weight: lowered.weight,
            draft: lowered.draft.clone(),
        }
    }
}

impl From<Version> for Lowered {
    fn from(version: Version) -> Self {
        Self {
            object: object(version.object),
            file: Arc::from(Path::new(&version.file)),
            at: version.at,
            created: version.created,
            weight: version.weight,
            draft: version.draft,
        }
    }
}

fn name(object: &ObjectRef) -> Name {
    (object.kind.to_string(), object.namespace.as_deref().map(str::to_owned), object.name.to_string())
}

fn object((kind, namespace, name): Name) -> ObjectRef {
    ObjectRef::new(&kind, namespace.as_deref(), &name)
}
