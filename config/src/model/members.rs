//! Who is behind a Service, whatever its ports are: whom a policy that names the Service is about.
//!
//! Not its endpoints: those are where connections go, and a pod that gets none at the moment is behind it all the same.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Labels, Workload, has_all};
use crate::name::{PodName, ServiceName};

/// The pods behind a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// Those of its namespace with all of these labels; `None` if it has no selector.
    pub selected: Option<Labels>,
    /// Those that its EndpointSlices name, on any port.
    pub named: BTreeSet<PodName>,
    /// Whether there can be no others. Without a selector only slices tell, and they may be missing.
    pub known: bool,
}

impl Members {
    /// Whether a workload is among them, as far as is known.
    pub fn have(&self, service: &ServiceName, workload: &Workload) -> bool {
        let selected = self.selected.as_ref().is_some_and(|labels| has_all(&workload.labels, labels));
        selected && workload.pod.namespace == service.namespace || self.named.contains(&workload.pod)
    }
}
