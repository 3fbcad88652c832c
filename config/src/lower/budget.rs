//! The budget of a Tenant: every number checked by itself, so that one report names all that are wrong.
//!
//! It must never take a number that would refuse everything for one that was meant.

use super::{Context, quantity};
use crate::{document::Node, model::Budget};

/// Reads a budget; findings say which of its numbers cannot be.
pub(super) fn lower(context: &mut Context<'_>, node: &Node) -> Budget {
    let mut read = |path: &[&str], read: Read| {
        let node = node.at_path(path)?;
        read(context, node)
    };
    let budget = Budget {
        cpu_share_millis: read(&["cpu", "share"], cores),
        cpu_cap_millis: read(&["cpu", "cap"], cores),
        memory_soft_bytes: read(&["memory", "soft"], memory),
        memory_hard_bytes: read(&["memory", "hard"], memory),
        connections: read(&["connections"], count),
        connections_per_workload: read(&["connectionsPerWorkload"], count),
        connections_per_second: read(&["connectionsPerSecond"], count),
        requests_per_second: read(&["requestsPerSecond"], count),
        requests_in_flight: read(&["requestsInFlight"], count),
        bytes_per_second_in: read(&["bytesPerSecond", "in"], speed),
        bytes_per_second_out: read(&["bytesPerSecond", "out"], speed),
        descriptors: read(&["descriptors"], descriptors),
        objects: read(&["objects"], count),
        compiled_bytes: read(&["compiledBytes"], memory),
        updates_per_second: read(&["updatesPerSecond"], count),
    };
    let mut in_order = Order { context, node };
    in_order.check((["cpu", "share"], ["cpu", "cap"]), (budget.cpu_share_millis, budget.cpu_cap_millis));
    let memory = (budget.memory_soft_bytes, budget.memory_hard_bytes);
    in_order.check((["memory", "soft"], ["memory", "hard"]), memory);
    let connections = (budget.connections_per_workload, budget.connections);
    in_order.check((["connectionsPerWorkload"], ["connections"]), connections);
    budget
}

type Read = fn(&mut Context<'_>, &Node) -> Option<u64>;

fn cores(context: &mut Context<'_>, node: &Node) -> Option<u64> {
    let millis = quantity::millis(context, node)?;
    if millis > MOST_MILLIS {
        context.invalid(node, "is more than 1000000 cores, which no node has: write less, or remove it");
        return None;
    }
    at_least(context, node, (millis, 1), "0 is no CPU at all: write 10m or more, or remove it")
}

fn memory(context: &mut Context<'_>, node: &Node) -> Option<u64> {
    let bytes = quantity::units(context, node)?;
    let remedy =
        "is less than the cell of a tenant without a connection holds: write 1Mi or more, or remove it";
    at_least(context, node, (bytes, LEAST_MEMORY), remedy)
}

fn speed(context: &mut Context<'_>, node: &Node) -> Option<u64> {
    let bytes = quantity::units(context, node)?;
    let remedy = "is too slow for a connection to be made use of: write 1k or more, or remove it";
    at_least(context, node, (bytes, LEAST_SPEED), remedy)
}

fn descriptors(context: &mut Context<'_>, node: &Node) -> Option<u64> {
    let number = count(context, node)?;
    let remedy = "is too few, as a connection takes two: write 16 or more, or remove it";
    at_least(context, node, (number, LEAST_DESCRIPTORS), remedy)
}

/// A number of things; 0 would refuse everything, which nobody asks for by a number.
fn count(context: &mut Context<'_>, node: &Node) -> Option<u64> {
    let number = node.int().and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    if number.is_none() {
        let message = format!("must be a whole number from 1, not {}: or remove it", node.describe());
        context.invalid(node, message);
    }
    number
}

fn at_least(
    context: &mut Context<'_>,
    node: &Node,
    (number, least): (u64, u64),
    remedy: &str,
) -> Option<u64> {
    if number >= least {
        return Some(number);
    }
    context.invalid(node, remedy);
    None
}

struct Order<'a, 'c> {
    context: &'a mut Context<'c>,
    node: &'a Node,
}

impl Order<'_, '_> {
    fn check<const N: usize>(
        &mut self,
        (low, high): ([&str; N], [&str; N]),
        values: (Option<u64>, Option<u64>),
    ) {
        if let ((Some(low_value), Some(high_value)), Some(node)) = (values, self.node.at_path(&low))
            && low_value > high_value
        {
            let message = format!("{} must not be above {}: lower it", low.join("."), high.join("."));
            self.context.invalid(node, message);
        }
    }
}

/// A million cores: more than any node has, and few enough to be summed over all tenants.
const MOST_MILLIS: u64 = 1_000_000_000;
/// An idle tenant's cell holds less than 0.7 MiB.
const LEAST_MEMORY: u64 = 1 << 20;
/// One packet a second or so.
const LEAST_SPEED: u64 = 1000;
/// Eight connections, each with its two sockets.
const LEAST_DESCRIPTORS: u64 = 16;
