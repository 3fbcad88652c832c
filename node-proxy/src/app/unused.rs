//! What no pod of this node has used yet: a node that asks its control plane for one thing after the other asks for what it is asked about,
//! too, as it does for a pod that connects there. It must never take what it has not asked for to be outside.

use std::time::Duration;

use config::{discovery::service_name, name::ClusterDomain};

use crate::{
    control::discovery::client::{Answer, Demand},
    explain::{Question, service_of},
    hbone::authority::Authority,
};

/// Has the mesh in force have what a question is about, if it is somebody's; why it is not known whether it is.
pub(super) async fn ask(demand: &Demand, question: &Question, domain: &ClusterDomain) -> Result<(), String> {
    let to = &question.to;
    let wanted = |demand: &Demand| match to {
        Authority::Address(address) => demand.want(address.ip()),
        Authority::Host { name, .. } => match service_of(name, &question.from.namespace, domain) {
            Some(service) => demand.want_name(&service_name(domain, &service)),
            None => Answer::Absent,
        },
    };
    match demand.settled(wanted, PATIENCE).await {
        Answer::Present | Answer::Refused | Answer::Absent => Ok(()),
        Answer::Asked => Err(format!(
            "this node knows of the mesh what its pods have used (--discovery-on-demand), and the control plane has not answered yet what \
             {to} is: is it there (`canopy status`)? Otherwise ask again in a moment"
        )),
        Answer::Full => Err(format!(
            "this node asks its control plane for as much as it may (--discovery-on-demand), so it cannot ask what {to} is: ask with \
             --config, by the manifests"
        )),
    }
}

/// How long the control plane may take: it answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
