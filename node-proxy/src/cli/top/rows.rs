//! What is in the table: a row per tenant, or per workload of one, sorted; and the table as text.

use std::{
    cmp::{Ordering, Reverse},
    fmt,
};

use config::model::Budget;

use super::{
    Sort,
    cells::{Cell, bytes, cores, short},
};
use crate::forest::costs::{NodeCosts, Rates, TenantCosts, Used, WorkloadCosts};

/// A table's rows.
#[derive(Debug)]
pub(super) struct Rows {
    /// What the rows are.
    pub(super) what: &'static str,
    pub(super) rows: Vec<Row>,
}

/// One row.
#[derive(Debug)]
pub(super) struct Row {
    /// As it is shown.
    pub(super) name: String,
    /// The workload line of all else is always the last.
    is_rest: bool,
    pub(super) cells: [Cell; COLUMNS],
}

/// Columns besides the name.
pub(super) const COLUMNS: usize = 7;
/// Their headings and widths; with a name of [`NAME`] they fill 80 characters.
pub(super) const HEADINGS: [(&str, usize); COLUMNS] =
    [("CPU", 9), ("MEMORY", 11), ("CONNS", 9), ("REQ/S", 9), ("IN/S", 5), ("OUT/S", 5), ("REF/S", 5)];
/// The width of a name that has to be cut.
pub(super) const NAME: usize = 19;

impl Rows {
    /// Of all tenants, or of the workloads of one.
    pub(super) fn of(costs: &NodeCosts, tenant: Option<&str>, sort: Sort) -> Self {
        let (what, mut rows): (_, Vec<Row>) = match tenant {
            None => ("TENANT", costs.tenants.iter().map(Row::of_tenant).collect()),
            Some(tenant) => {
                let tenant = costs.tenants.iter().find(|known| known.tenant == tenant);
                let workloads = tenant.into_iter().flat_map(|tenant| &tenant.workloads);
                ("WORKLOAD", workloads.map(Row::of_workload).collect())
            }
        };
        rows.sort_by(|a, b| a.is_rest.cmp(&b.is_rest).then_with(|| sort.compare(a, b)));
        Self { what, rows }
    }
}

impl Sort {
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let by_name = a.name.cmp(&b.name);
        self.key(b).total_cmp(&self.key(a)).then(by_name)
    }

    fn key(self, row: &Row) -> f64 {
        let [cpu, memory, connections, requests, received, sent, refused] = row.cells.map(|cell| cell.used);
        match self {
            Self::Cpu => cpu,
            Self::Memory => memory,
            Self::Connections => connections,
            Self::Requests => requests,
            Self::Bytes => received + sent,
            Self::Refused => refused,
            Self::Name => 0.0,
        }
    }
}

impl Row {
    fn of_tenant(tenant: &TenantCosts) -> Self {
        let name = match tenant.state.as_str() {
            "running" => tenant.tenant.clone(),
            state => format!("{} ({state})", tenant.tenant),
        };
        Self { name, is_rest: false, cells: cells(&tenant.used, tenant.rates, &tenant.budget) }
    }

    fn of_workload(workload: &WorkloadCosts) -> Self {
        let name = workload.workload.clone().unwrap_or_else(|| REST.to_owned());
        let cells = cells(&workload.used, workload.rates, &Budget::default());
        Self { name, is_rest: workload.workload.is_none(), cells }
    }
}

/// How the line is called that no workload of now has.
const REST: &str = "(the cell itself)";

fn cells(used: &Used, rates: Option<Rates>, budget: &Budget) -> [Cell; COLUMNS] {
    let rates = rates.unwrap_or_default();
    let number = |bound: Option<u64>| bound.map(|bound| bound as f64);
    let cpu = number(budget.cpu_cap_millis.or(budget.cpu_share_millis)).map(|millis| millis / 1000.0);
    let memory = number(budget.memory_hard_bytes.or(budget.memory_soft_bytes));
    [
        Cell::new(rates.cpu_cores, cpu, cores),
        Cell::new(used.memory_bytes as f64, memory, bytes),
        Cell::new(used.connections_open as f64, number(budget.connections), short),
        Cell::new(rates.requests_per_second, number(budget.requests_per_second), short),
        Cell::new(rates.bytes_received_per_second, number(budget.bytes_per_second_out), bytes),
        Cell::new(rates.bytes_sent_per_second, number(budget.bytes_per_second_in), bytes),
        Cell::new(rates.refused_per_second, None, short),
    ]
}

/// A cell as it is shown in its column: beside its bound where the column has room for one.
pub(super) fn text(column: usize, cell: &Cell) -> String {
    if column < BOUNDED { cell.beside() } else { cell.alone() }
}

/// The first columns, which show a bound.
const BOUNDED: usize = 4;

/// Cuts a name to its column.
pub(super) fn cut(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    let kept: String = name.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<NAME$}", self.what)?;
        for (heading, width) in HEADINGS {
            write!(f, " {heading:>width$}")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            // Nothing is cut here: programs read it, too.
            write!(f, "{:<NAME$}", row.name)?;
            for (column, (cell, (_, width))) in row.cells.iter().zip(HEADINGS).enumerate() {
                write!(f, " {:>width$}", text(column, cell))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The widest name, as far as there is room for it.
pub(super) fn name_width(rows: &[Row], room: usize) -> usize {
    let widest = rows.iter().map(|row| Reverse(row.name.chars().count())).min();
    widest.map_or(NAME, |Reverse(widest)| widest.clamp(NAME.min(room), room.max(1)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two tenants, of which one is at its budget and has two workloads.
    pub(in super::super) fn node() -> NodeCosts {
        let text = include_str!("node.json");
        let (mut now, before): (NodeCosts, NodeCosts) = serde_json::from_str(text).unwrap();
        now.add_rates(&before);
        now
    }

    #[test]
    fn tenants_are_shown_beside_their_budgets() {
        let expected = "\
TENANT                    CPU      MEMORY     CONNS     REQ/S  IN/S OUT/S REF/S
shop                0.50/2.00     12M/64M    30/100   500/500   98K  1.2M    20
ns/bank (draining)     0.10/–      1.5M/–       3/–      10/–  100B  200B     0
";
        assert_eq!(Rows::of(&node(), None, Sort::Cpu).to_string(), expected);
        assert!(expected.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn rows_are_sorted_by_whatever_is_asked_and_all_else_is_last() {
        let names = |tenant, sort| {
            let rows = Rows::of(&node(), tenant, sort).rows;
            rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
        };
        assert_eq!(names(None, Sort::Name), ["ns/bank (draining)", "shop"]);
        let by_cpu = ["shop/web", "shop/cart", "(the cell itself)"];
        assert_eq!(names(Some("shop"), Sort::Cpu), by_cpu);
        assert_eq!(names(Some("shop"), Sort::Connections), ["shop/cart", "shop/web", "(the cell itself)"]);
        for (sort, first) in [
            (Sort::Memory, "shop/cart"),
            (Sort::Requests, "shop/web"),
            (Sort::Bytes, "shop/cart"),
            (Sort::Refused, "shop/web"),
        ] {
            assert_eq!(names(Some("shop"), sort)[0], first, "{sort:?}");
        }
    }

    #[test]
    fn long_names_are_cut_where_there_is_no_room() {
        assert_eq!(cut("shop/frontend", 8), "shop/fr…");
        assert_eq!(cut("shop", 8), "shop");
        let rows = Rows::of(&node(), None, Sort::Name).rows;
        assert_eq!([name_width(&rows, 10), name_width(&rows, 40)], [10, NAME]);
    }
}
