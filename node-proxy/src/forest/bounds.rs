//! Whose bound it is that refused something or ended it: the tenant's own budget's, or the node's.
//!
//! Which reasons are a budget's at all, their table says. It must never call the node's bound the tenant's.

use config::model::Budget;

use crate::{
    telemetry::{Reason, reason::Fault},
    tenancy::events::Kind,
};

/// A bound, as its owner is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// The tenant's budget refused it.
    Budget,
    /// The tenant's budget ended it.
    Shed,
    /// The node's refused it, whatever the budget says.
    Node,
    /// One of both: nobody has counted which.
    Either,
}

impl Bound {
    /// Whose bound it is that refuses so in a cell with this budget, to which the node gives so many connections each way. `None`
    /// where it is no bound on how much or how fast.
    pub(super) fn of(reason: Reason, budget: &Budget, share: usize) -> Option<Self> {
        match reason {
            Reason::MemoryShed => Some(Self::Shed),
            Reason::HandshakeLimit | Reason::TunnelLimit => Some(Self::Node),
            Reason::ConnectionLimit => Some(Self::on_connections(budget, share)),
            _ => (reason.fault() == Fault::Budget).then_some(Self::Budget),
        }
    }

    /// Accepted connections are bounded by both numbers of the budget, sockets to elsewhere by that of descriptors alone; the
    /// node bounds each by the same.
    fn on_connections(budget: &Budget, share: usize) -> Self {
        let is_less = |number: Option<u64>| number.is_some_and(|number| number <= share as u64);
        if is_less(budget.descriptors.map(|descriptors| descriptors / 2)) {
            Self::Budget
        } else if is_less(budget.connections) {
            Self::Either
        } else {
            Self::Node
        }
    }

    /// Whose doing it is.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Budget | Self::Shed | Self::Either => Kind::Budget,
            Self::Node => Kind::Node,
        }
    }

    /// What it did, to be followed by how often.
    pub(super) fn deed(self) -> &'static str {
        match self {
            Self::Budget => "your budget refused",
            Self::Shed => "your budget ended",
            Self::Node => "this node's bound on what each tenant may have, not your budget, refused",
            Self::Either => {
                "your budget of connections, or this node's bound on sockets to endpoints, refused"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_the_budgets_only_where_the_budget_says_it() {
        let of = |reason, budget: Budget| Bound::of(reason, &budget, 100);
        let none = Budget::default();
        for reason in [Reason::HandshakeLimit, Reason::TunnelLimit, Reason::ConnectionLimit] {
            assert_eq!(of(reason, none), Some(Bound::Node), "{reason}");
        }
        for reason in [Reason::WorkloadConnectionLimit, Reason::RequestRate, Reason::MemoryLimit] {
            assert_eq!(of(reason, none), Some(Bound::Budget), "{reason}");
        }
        assert_eq!(of(Reason::MemoryShed, none), Some(Bound::Shed));
        for reason in [Reason::NoRoute, Reason::IdleTimeout, Reason::HandoffFull, Reason::CellRestarted] {
            assert_eq!(of(reason, none), None, "{reason}");
        }
    }

    #[test]
    fn connections_are_bounded_by_whichever_says_less() {
        let of = |connections, descriptors| {
            let budget = Budget { connections, descriptors, ..Budget::default() };
            Bound::of(Reason::ConnectionLimit, &budget, 100)
        };
        assert_eq!(of(Some(101), Some(202)), Some(Bound::Node));
        assert_eq!(of(Some(7), None), Some(Bound::Either), "sockets are the node's to bound");
        assert_eq!(of(Some(7), Some(202)), Some(Bound::Either));
        assert_eq!(of(None, Some(20)), Some(Bound::Budget));
        assert_eq!(of(Some(7), Some(20)), Some(Bound::Budget));
    }
}
