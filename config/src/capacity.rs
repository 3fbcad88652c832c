//! What a machine has, and whether tenants are promised more than that. Pure sums over budgets.
//!
//! Overcommitting is allowed: tenants seldom want all at once. It must only never go unsaid.

use std::{fmt, str::FromStr};

use crate::{lower::quantity_of, model::Tenant};

/// So much CPU and memory: of a machine, or kept back from it for the system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core, where it is said.
    pub cpu_millis: Option<u64>,
    /// Bytes, where it is said.
    pub memory_bytes: Option<u64>,
}

/// Why a text says no amounts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form cpu=500m,memory=256Mi: one of the two, or both")]
pub struct AmountsError(String);

impl FromStr for Amounts {
    type Err = AmountsError;

    fn from_str(text: &str) -> Result<Self, AmountsError> {
        let mut amounts = Self::default();
        for part in text.split(',') {
            let (field, scale) = match part.split_once('=') {
                Some(("cpu", _)) => (&mut amounts.cpu_millis, 1000),
                Some(("memory", _)) => (&mut amounts.memory_bytes, 1),
                _ => return Err(AmountsError(text.to_owned())),
            };
            let quantity = part.split_once('=').and_then(|(_, quantity)| quantity_of(quantity, scale));
            if quantity.is_none() || field.is_some() {
                return Err(AmountsError(text.to_owned()));
            }
            *field = quantity;
        }
        Ok(amounts)
    }
}

/// Something of which tenants are promised more than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overcommit {
    /// Guaranteed CPU, in thousandths of a core.
    Cpu {
        /// The sum of the tenants' `cpu.share`.
        promised: u64,
        /// What the machine has, less the reserve.
        there: u64,
    },
    /// Memory, in bytes.
    Memory {
        /// The sum of the tenants' `memory.hard`.
        promised: u64,
        /// What the machine has, less the reserve.
        there: u64,
    },
}

/// What these tenants are promised beyond what a machine has once the reserve is taken.
pub fn overcommit<'a>(
    tenants: impl IntoIterator<Item = &'a Tenant>,
    machine: Amounts,
    reserve: Amounts,
) -> Vec<Overcommit> {
    let (mut cpu, mut memory) = (0_u64, 0_u64);
    for Tenant { budget, .. } in tenants {
        cpu = cpu.saturating_add(budget.cpu_share_millis.unwrap_or_default());
        memory = memory.saturating_add(budget.memory_hard_bytes.unwrap_or_default());
    }
    let left = |all: Option<u64>, reserved: Option<u64>| Some(all?.saturating_sub(reserved.unwrap_or(0)));
    let of_cpu = left(machine.cpu_millis, reserve.cpu_millis).filter(|there| cpu > *there);
    let of_memory = left(machine.memory_bytes, reserve.memory_bytes).filter(|there| memory > *there);
    let of_cpu = of_cpu.map(|there| Overcommit::Cpu { promised: cpu, there });
    let of_memory = of_memory.map(|there| Overcommit::Memory { promised: memory, there });
    of_cpu.into_iter().chain(of_memory).collect()
}

impl fmt::Display for Overcommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { promised, there } => write!(
                f,
                "tenants are promised {promised}m of CPU together (cpu.share), and {there}m are there for them: \
                 when all want theirs, each gets less; lower shares, or keep some of the tenants off this machine"
            ),
            Self::Memory { promised, there } => write!(
                f,
                "tenants may take {} MiB of memory together (memory.hard), and {} MiB are there for them: \
                 when all take theirs, the machine runs out first; lower the limits, or keep some of the tenants off this machine",
                promised >> 20,
                there >> 20
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Budget, Egress, Isolation},
        name::{Name, TenantId},
    };

    fn tenant(share: u64, hard: u64) -> Tenant {
        let budget = Budget {
            cpu_share_millis: Some(share),
            memory_hard_bytes: Some(hard << 20),
            ..Budget::default()
        };
        let id = TenantId::Tenant(Name::try_from("a").unwrap());
        let (isolation, egress) = (Isolation::default(), Egress::default());
        Tenant { id, namespaces: Vec::new(), isolation, egress, budget, owner: None, left_out: 0 }
    }

    #[test]
    fn amounts_are_read_in_kubernetes_quantities_and_nothing_else_is() {
        let amounts = |text: &str| text.parse::<Amounts>();
        let both = Amounts { cpu_millis: Some(4000), memory_bytes: Some(8 << 30) };
        assert_eq!(amounts("cpu=4,memory=8Gi"), Ok(both));
        assert_eq!(amounts("memory=8Gi"), Ok(Amounts { cpu_millis: None, ..both }));
        for text in ["", "cpu", "cpu=", "cpu=x", "cpu=1,cpu=2", "disk=1", "cpu=1,"] {
            assert!(amounts(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_promised_beyond_the_machine_less_its_reserve_is_said_and_no_more() {
        let machine: Amounts = "cpu=2,memory=100Mi".parse().unwrap();
        let tenants = [tenant(1000, 50), tenant(1000, 50)];
        assert_eq!(overcommit(&tenants, machine, Amounts::default()), []);
        assert_eq!(overcommit(&tenants, Amounts::default(), Amounts::default()), []);
        let reserve: Amounts = "cpu=1m,memory=1Mi".parse().unwrap();
        let expected = [
            Overcommit::Cpu { promised: 2000, there: 1999 },
            Overcommit::Memory { promised: 100 << 20, there: 99 << 20 },
        ];
        assert_eq!(overcommit(&tenants, machine, reserve), expected);
    }
}
