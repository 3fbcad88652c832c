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
    finding::{Finding, ObjectRef, Reason, Severity},
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
    pub(super) fn take(&mut self, files: Vec<Difference>, mesh: &Mesh, time: Duration) -> Turn {
        let mut again: Option<Duration> = None;
        let (mut held, mut findings) = (BTreeSet::new(), Vec::new());
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
                findings.extend(waiting(&files, &namespaces, (id, rate)));
                held.extend(namespaces);
            }
        }
        if held.is_empty() {
            return Turn { files, again, findings };
        }
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

/// Says of each object of a tenant that is another than it was taken up that this waits, and for what: of the first so many, and how
/// many more there are. Without the time that is left, so that it is the same until it is over.
fn waiting(
    files: &[Difference],
    namespaces: &BTreeSet<&str>,
    (tenant, rate): (&TenantId, u64),
) -> Vec<Finding> {
    let mut differing: BTreeMap<&ObjectRef, (&PathBuf, &ReadObject)> = BTreeMap::new();
    for Difference { path, then, now } in files {
        let sides = [then, now].map(|read| -> BTreeMap<&ObjectRef, &ReadObject> {
            of_file(read.as_deref(), namespaces).map(|object| (&object.name, object)).collect()
        });
        let [then, now] = &sides;
        for (&name, &object) in then.iter().chain(now) {
            let said = |side: &BTreeMap<&ObjectRef, &ReadObject>| {
                side.get(&name).map(|object| (object.lowered.clone(), object.generation))
            };
            if said(then) != said(now) {
                differing.insert(name, (path, object));
            }
        }
    }
    let every = SECOND / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
    let more = match differing.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!("; so are {more} objects more of it"),
    };
    let message = format!(
        "put off until the next change of tenant {tenant} is due, in {} ms at most, since its configuration changes more often than \
         budget.updatesPerSecond ({rate}): until then it is as it was{more}",
        every.as_millis()
    );
    let told = differing.into_values().take(TOLD).map(|(path, object)| Finding {
        severity: Severity::Warning,
        reason: Reason::OverBudget,
        file: Arc::from(path.as_path()),
        position: object.at,
        object: Some(object.name.clone()),
        field: String::new(),
        message: message.clone(),
        excerpt: None,
    });
    told.collect()
}

/// Objects of a tenant that are told of by themselves.
const TOLD: usize = 32;
const SECOND: Duration = Duration::from_secs(1);
