//! The connections a pod has when its fence is raised: they go on. Each is named once, by both its ends; its socket is
//! marked with its next segment.

use ebpf_redirect_abi::FlowKey;

use crate::{
    Enrolment, RedirectError,
    kernel::{address::words, tables::FenceTables},
    netlink, netns,
};

/// Names them all. The pod must be steered by now, or one that is made meanwhile would be neither steered nor named.
pub(crate) fn note(tables: &FenceTables, netns: u64, pod: &Enrolment<'_>) -> Result<(), RedirectError> {
    let own: Vec<_> = pod.addresses.iter().map(|ip| words(*ip)).collect();
    let found = netns::inside(pod.pod, pod.netns, netlink::connections)?;
    let ends = found.into_iter().map(|connection| (connection.own, connection.peer));
    let crossing = ends.filter(|(here, there)| own.contains(&here.ip) && !own.contains(&there.ip));
    for (source, destination) in crossing {
        let noted = tables.earlier.set(&FlowKey { netns, source, destination }, &1);
        if noted.is_err_and(|error| error.raw_os_error() == Some(libc::E2BIG)) {
            tracing::warn!(
                pod = pod.pod,
                "the table of connections from before is full: some of this pod's end now"
            );
            break;
        }
    }
    Ok(())
}
