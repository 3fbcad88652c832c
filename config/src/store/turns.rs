//! How often each tenant's configuration may change: what comes faster is put off, and taken up together when its turn has come.
//!
//! Put off is what owners write, object by object: a tenant whose turn has not come keeps its objects as they were taken up last, also
//! those that are gone meanwhile, whatever happens to others' in the same files. Nothing is lost by it, and no clock is read here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::file::{FileRead, ReadObject};
use crate::{
    finding::{Finding, Reason, Severity},
    model::Mesh,
    name::{Namespace, TenantId},
    object::Kind,
};

/// Files by their path.
pub(super) type Files = BTreeMap<PathBuf, Arc<FileRead>>;

/// When the next change of each tenant is due at an even pace. As many as were left unused in the last second may come early.
#[derive(Debug, Default)]
pub(super) struct Turns(BTreeMap<TenantId, Duration>);

/// A file that was taken up in another version than it has now.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) path: PathBuf,
    pub(super) then: Option<Arc<FileRead>>,
    pub(super) now: Option<Arc<FileRead>>,
}

/// What is taken up now.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// In which version each file is taken up that differs.
    pub(super) files: Vec<Difference>,
    /// In how long the first of those comes whose turn has not come.
    pub(super) again: Option<Duration>,
    pub(super) findings: Vec<Finding>,
}

impl Turns {
    /// Takes up the files as they are now, but for the objects of tenants that change too often, which stay as they were. Whose an
    /// object is, and how often it may change, is what the mesh says that is in force.
    pub(super) fn take(
        &mut self,
        files: Vec<Difference>,
        (before, now): (&Files, impl FnOnce() -> Files),
        mesh: &Mesh,
        time: Duration,
    ) -> Turn {
        let mut again: Option<Duration> = None;
        let mut held = BTreeSet::new();
        self.0.retain(|tenant, _| mesh.tenants.contains_key(tenant));
        for (id, tenant) in &mesh.tenants {
            let Some(rate) = tenant.budget.updates_per_second else { continue };
            let namespaces: BTreeSet<&str> = tenant.namespaces.iter().map(Namespace::as_str).collect();
            let is_same = |file: &Difference| {
                of_file(file.then.as_deref(), &namespaces).eq(of_file(file.now.as_deref(), &namespaces))
            };
            if files.iter().all(is_same) {
                continue;
            }
            if let Some(early) = self.is_early(id, rate, time) {
                again = Some(again.map_or(early, |again| again.min(early)));
                held.extend(namespaces);
            }
        }
        if held.is_empty() {
            return Turn { files, again, findings: Vec::new() };
        }
        let findings = findings(before, &now(), &held);
        Turn { files: files.into_iter().map(|file| merged(file, &held)).collect(), again, findings }
    }

    /// Counts one more change; by how much it comes too early, if it does.
    fn is_early(&mut self, tenant: &TenantId, rate: u64, time: Duration) -> Option<Duration> {
        let interval = SECOND / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
        let due = self.0.get(tenant).copied().unwrap_or_default().max(time);
        let may_be = SECOND.saturating_sub(interval);
        if due - time > may_be {
            return Some(due - time - may_be);
        }
        self.0.insert(tenant.clone(), due + interval);
        None
    }
}

/// The objects of these namespaces that can be put off, with their places.
fn of<'a>(
    files: &'a Files,
    namespaces: &'a BTreeSet<&str>,
) -> impl Iterator<Item = (&'a PathBuf, &'a ReadObject)> {
    files.iter().flat_map(|(path, read)| of_file(Some(read), namespaces).map(move |object| (path, object)))
}

fn of_file<'a>(
    read: Option<&'a FileRead>,
    namespaces: &'a BTreeSet<&str>,
) -> impl Iterator<Item = &'a ReadObject> {
    read.into_iter().flat_map(|read| &read.objects).filter(|object| is_of(object, namespaces))
}

fn is_of(object: &ReadObject, namespaces: &BTreeSet<&str>) -> bool {
    let is_in = object.name.namespace.as_deref().is_some_and(|namespace| namespaces.contains(namespace));
    is_in && Kind::of(&object.name).is_some_and(Kind::is_configuration)
}

/// A file with those objects as they were, and all others as they are.
fn merged(file: Difference, held: &BTreeSet<&str>) -> Difference {
    let Difference { path, then, now } = file;
    let merged = FileRead::merged(then.as_deref(), now.as_deref(), |object| is_of(object, held));
    let is_there = now.is_some() || !merged.objects.is_empty();
    Difference { path, then, now: is_there.then(|| Arc::new(merged)) }
}

/// Says of the first object of each namespace that it waits.
fn findings(before: &Files, now: &Files, held: &BTreeSet<&str>) -> Vec<Finding> {
    let first = |namespace: &&str| {
        let one = BTreeSet::from([*namespace]);
        let (path, object) = of(now, &one).next().or_else(|| of(before, &one).next())?;
        Some(Finding {
            severity: Severity::Warning,
            reason: Reason::OverBudget,
            file: Arc::from(path.as_path()),
            position: object.at,
            object: Some(object.name.clone()),
            field: String::new(),
            message: format!(
                "changes of namespace {namespace} come faster than budget.updatesPerSecond of its tenant: they are put off, and taken up together"
            ),
            excerpt: None,
        })
    };
    held.iter().filter_map(first).collect()
}

const SECOND: Duration = Duration::from_secs(1);
