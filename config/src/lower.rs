//! From one object to a draft: everything that can be said about it without looking at any other object.
//!
//! One file per kind. What needs other objects (references, addresses taken twice) is `link`'s.

use std::{cell::OnceCell, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    document::{Node, Paths},
    finding::{Finding, ObjectRef, Position, Reason, Severity},
    model::{NetworkPolicy, PeerAuthentication},
    name::{Name, NameError, Namespace},
    object::{Kind, Object},
    options::Options,
    schema,
    suspect::Suspect,
};

pub(crate) use self::{
    authorization_policy::AuthorizationDraft,
    endpoint_slice::{SliceDraft, SliceEndpoint},
    http_route::{
        BackendDraft, FilterDraft, ParentDraft, ReferenceDraft, RouteDraft, RuleDraft, TargetDraft, failure,
    },
    metadata::{MODE, NETNS},
    namespace::{NamespaceDraft, undescribed},
    pod::{Membership, PodDraft, WorkloadDraft, netns_of},
    quantity::parse as quantity_of,
    reference_grant::{FromDraft, GATEWAY, GrantDraft, ToDraft},
    service::{PortDraft, Preference, ServiceDraft, TargetPort},
    service_entry::{EntryDraft, HOSTS},
    stand_in::{mean_the_same, of_all, of_named, strictest, unreadable_in},
    tenant::TenantDraft,
};

// One kind each.
mod authorization_policy;
mod endpoint_slice;
mod grpc_route;
mod http_route;
mod namespace;
mod network_policy;
mod peer_authentication;
mod pod;
mod reference_grant;
mod service;
mod service_account;
mod service_entry;
mod tenant;

// Values that several kinds share.
pub(crate) mod address;
mod app_protocol;
mod budget;
pub(crate) mod duration;
mod label_selector;
mod metadata;
mod quantity;
mod scope;
mod weight;

// What is in force in the place of what cannot be read.
mod stand_in;

/// A place that a later finding can name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) at: Position,
    pub(crate) field: String,
}

/// What an object says, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Draft {
    Namespace(NamespaceDraft),
    ServiceAccount,
    Pod(Box<PodDraft>),
    /// `None` for an ExternalName Service, which has no traffic of its own.
    Service(Option<ServiceDraft>),
    EndpointSlice(SliceDraft),
    /// An HTTPRoute or GRPCRoute.
    Route(RouteDraft),
    ReferenceGrant(GrantDraft),
    Tenant(TenantDraft),
    Authorization(AuthorizationDraft),
    PeerAuthentication(PeerAuthentication),
    Network(NetworkPolicy),
    ServiceEntry(EntryDraft),
}

/// An object that is valid by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lowered {
    pub(crate) object: ObjectRef,
    pub(crate) file: Arc<Path>,
    pub(crate) at: Position,
    /// Seconds since the epoch, if it says so.
    pub(crate) created: Option<i64>,
    /// What it counts of its tenant's `compiledBytes`.
    pub(crate) weight: u64,
    pub(crate) draft: Draft,
}

/// What came of one object.
#[derive(Debug)]
pub(crate) struct Lowering {
    /// What it says, if it is valid.
    pub(crate) accepted: Option<Lowered>,
    /// What stands in for it where it is not, and no earlier version is known: only for objects that protect something.
    pub(crate) stand_in: Option<Lowered>,
    /// What it may have been besides, where it is a security object and does not say in the right words of which namespace.
    pub(crate) suspects: Vec<Suspect>,
    pub(crate) findings: Vec<Finding>,
}

/// Lowers one object; findings say why where it is not accepted.
pub(crate) fn lower(file: &Arc<Path>, object: &Object, options: &Options) -> Lowering {
    let mut context = Context::new(file, object);
    context.of_cluster = options.of_cluster;
    schema::check(&mut context, &object.root, object.kind.as_str());
    let draft = if context.rejected { None } else { draft(&mut context, object, options) };
    if draft.is_none() && !context.rejected {
        // A manifest that vanishes without a word is the worst of answers: a poor word is better.
        debug_assert!(false, "{} was lowered to nothing, without a finding", object.name);
        context.invalid(&object.root, "cannot be read, for a reason that is not known: compare its fields");
    }
    let (created, weight) = (metadata::created(&object.root), weight::of(&object.root));
    let lowered = |draft| Lowered {
        object: object.name.clone(),
        file: Arc::clone(file),
        at: object.root.at,
        created,
        weight,
        draft,
    };
    let accepted = draft.filter(|_| !context.rejected).map(lowered);
    context.drop_contradictions();
    let mut lowering =
        Lowering { accepted, stand_in: None, suspects: Vec::new(), findings: context.findings };
    if lowering.accepted.is_none() {
        (lowering.stand_in, lowering.suspects) = stand_in::of_rejected(file, object, options);
    }
    lowering
}

fn draft(context: &mut Context<'_>, object: &Object, options: &Options) -> Option<Draft> {
    let root = &object.root;
    let meta = metadata::read(context, root, object.kind)?;
    let root_namespace = &options.root_namespace;
    match object.kind {
        Kind::Namespace => namespace::lower(context, root).map(Draft::Namespace),
        Kind::ServiceAccount => service_account::lower(context, root),
        Kind::Pod => {
            pod::lower(context, root, meta, &options.trust_domain).map(|pod| Draft::Pod(Box::new(pod)))
        }
        Kind::Service => service::lower(context, root, meta).map(Draft::Service),
        Kind::EndpointSlice => endpoint_slice::lower(context, root, meta).map(Draft::EndpointSlice),
        Kind::HttpRoute => http_route::lower(context, root, meta).map(Draft::Route),
        Kind::GrpcRoute => grpc_route::lower(context, root, meta).map(Draft::Route),
        Kind::ReferenceGrant => reference_grant::lower(context, root, meta).map(Draft::ReferenceGrant),
        Kind::Tenant => tenant::lower(context, root, meta).map(Draft::Tenant),
        Kind::AuthorizationPolicy => {
            authorization_policy::lower(context, root, meta, root_namespace).map(Draft::Authorization)
        }
        Kind::PeerAuthentication => {
            peer_authentication::lower(context, root, meta, root_namespace).map(Draft::PeerAuthentication)
        }
        Kind::NetworkPolicy => network_policy::lower(context, root, meta).map(Draft::Network),
        Kind::ServiceEntry => {
            service_entry::lower(context, root, meta, root_namespace).map(Draft::ServiceEntry)
        }
    }
}

/// One object on its way: collects what is found about it.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    file: &'a Arc<Path>,
    object: &'a Object,
    findings: Vec<Finding>,
    rejected: bool,
    /// An API server has taken it.
    of_cluster: bool,
    /// Made when the first place is asked for.
    paths: OnceCell<Paths<'a>>,
}

impl<'a> Context<'a> {
    fn new(file: &'a Arc<Path>, object: &'a Object) -> Self {
        Self {
            file,
            object,
            findings: Vec::new(),
            rejected: false,
            of_cluster: false,
            paths: OnceCell::new(),
        }
    }

    /// Where a node is, for findings that are made when it is no longer at hand.
    pub(crate) fn place(&self, node: &Node) -> Place {
        Place { at: node.at, field: self.path(node) }
    }

    /// The object cannot be accepted because of this value.
    pub(crate) fn reject(&mut self, node: &Node, reason: Reason, message: impl Into<String>) {
        self.find(Severity::Rejected, reason, node, message);
    }

    /// The object cannot be accepted because of this value, which is not allowed.
    pub(crate) fn invalid(&mut self, node: &Node, message: impl Into<String>) {
        self.reject(node, Reason::InvalidValue, message);
    }

    /// The object cannot be accepted because a field is not there.
    pub(crate) fn missing(&mut self, parent: &Node, field: &str, message: impl Into<String>) {
        let path = self.path(parent);
        let path = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
        let place = Place { at: parent.at, field: path };
        self.push(Severity::Rejected, Reason::MissingField, place, message.into());
    }

    /// Accepted, with something to say.
    pub(crate) fn note(
        &mut self,
        severity: Severity,
        reason: Reason,
        node: &Node,
        message: impl Into<String>,
    ) {
        self.find(severity, reason, node, message);
    }

    fn find(&mut self, severity: Severity, reason: Reason, node: &Node, message: impl Into<String>) {
        let place = self.place(node);
        self.push(severity, reason, place, message.into());
    }

    pub(crate) fn push(&mut self, severity: Severity, reason: Reason, place: Place, message: String) {
        let severity = match reason {
            Reason::LeftToOthers if self.of_cluster => return,
            Reason::UnknownField if self.of_cluster && self.object.kind.is_fact() => Severity::NotObeyed,
            _ => severity,
        };
        self.rejected |= severity == Severity::Rejected;
        // One object cannot fill the report: the first few findings are what its author needs.
        if self.findings.len() < FINDINGS_PER_OBJECT
            || severity == Severity::Rejected && self.findings.len() < 2 * FINDINGS_PER_OBJECT
        {
            self.findings.push(Finding {
                severity,
                reason,
                file: Arc::clone(self.file),
                position: place.at,
                object: Some(self.object.name.clone()),
                field: place.field,
                message,
                excerpt: None,
            });
        }
    }

    /// A name at a node, or a finding.
    pub(crate) fn name<T>(&mut self, node: &Node) -> Option<T>
    where
        T: for<'t> TryFrom<&'t str, Error = NameError>,
    {
        let text = node.text().unwrap_or_default();
        T::try_from(text).map_err(|error| self.invalid(node, error.to_string())).ok()
    }

    /// A port number at a node, or a finding.
    pub(crate) fn port(&mut self, node: &Node) -> Option<u16> {
        let number = node.int().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
        if number.is_none() {
            self.invalid(node, format!("must be a port between 1 and 65535, not {}", node.describe()));
        }
        number
    }

    /// What is rejected for its value is not besides treated as another.
    fn drop_contradictions(&mut self) {
        let is_rejected = |finding: &&Finding| finding.severity == Severity::Rejected;
        let rejected: Vec<String> =
            self.findings.iter().filter(is_rejected).map(|finding| finding.field.clone()).collect();
        self.findings
            .retain(|finding| finding.severity != Severity::NotObeyed || !rejected.contains(&finding.field));
    }

    fn path(&self, node: &Node) -> String {
        self.paths.get_or_init(|| Paths::of(&self.object.root)).to(node)
    }
}

const FINDINGS_PER_OBJECT: usize = 64;

/// What `metadata` says, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Meta {
    /// `None` for a cluster-scoped kind.
    pub(crate) namespace: Option<Namespace>,
    pub(crate) name: Name,
    pub(crate) uid: Option<String>,
    /// Seconds since the epoch.
    pub(crate) created: Option<i64>,
}
