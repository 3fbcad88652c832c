//! Which pods of this node have a tree, and which wait for one: told to whoever waits for a pod, whenever it changes.
//!
//! A pod is in it from the moment at which its connections are steered and it is fenced, its denials known to the kernel. Nothing here is a
//! cell's.

use std::sync::Arc;

use config::model::Workload;

/// The pods of this node.
#[derive(Debug, Clone, Default)]
pub struct Enrolments {
    /// Version of the configuration in force.
    pub version: u64,
    /// Those with a tree, in the order of their names.
    pub planted: Vec<Arc<Workload>>,
    /// Those without, and what is in the way.
    pub waiting: Vec<(Arc<Workload>, String)>,
}

impl Enrolments {
    /// Takes up what is so now; whether anything is other than it was. Called ten times a second: what is as it was costs a comparison
    /// of addresses.
    pub(super) fn take_up<'a>(
        &mut self,
        version: u64,
        planted: impl Iterator<Item = &'a Arc<Workload>> + Clone,
        waiting: impl Iterator<Item = (&'a Arc<Workload>, &'a String)> + Clone,
    ) -> bool {
        let is_known = self.version == version
            && self.planted.iter().map(Arc::as_ptr).eq(planted.clone().map(Arc::as_ptr))
            && self
                .waiting
                .iter()
                .map(|(workload, problem)| (Arc::as_ptr(workload), problem))
                .eq(waiting.clone().map(|(workload, problem)| (Arc::as_ptr(workload), problem)));
        if is_known {
            return false;
        }
        *self = Self {
            version,
            planted: planted.map(Arc::clone).collect(),
            waiting: waiting.map(|(workload, problem)| (Arc::clone(workload), problem.clone())).collect(),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use config::{
        identity::{Identity, TrustDomain},
        name::{Name, Namespace, PodName, ServiceAccount, TenantId},
    };

    use super::*;

    #[test]
    fn only_what_is_other_than_it_was_is_told() {
        let namespace = Namespace::try_from("shop").unwrap();
        let account = ServiceAccount::try_from("default").unwrap();
        let identity = Identity {
            trust_domain: TrustDomain::default(),
            namespace: namespace.clone(),
            service_account: account,
        };
        let pod = |name: &str| {
            let pod = PodName::new(namespace.clone(), Name::try_from(name).unwrap());
            Arc::new(Workload::new(pod, TenantId::Namespace(namespace.clone()), identity.clone()))
        };
        let (cart, till) = (pod("cart"), pod("till"));
        let (problem, other) = ("no port".to_owned(), "no fence".to_owned());
        let mut known = Enrolments::default();
        let mut take = |version, planted: &[&Arc<Workload>], waiting: &[(&Arc<Workload>, &String)]| {
            known.take_up(version, planted.iter().copied(), waiting.iter().copied())
        };
        assert!(!take(0, &[], &[]));
        assert!(take(1, &[], &[]), "another configuration");
        assert!(take(1, &[&cart], &[(&till, &problem)]));
        assert!(!take(1, &[&cart], &[(&till, &problem)]));
        assert!(take(1, &[&cart], &[(&till, &other)]), "another problem");
        assert!(take(1, &[&cart, &till], &[]));
        assert!(take(1, &[&pod("cart"), &till], &[]), "another pod of that name");
        assert_eq!(known.planted.len(), 2);
    }
}
