//! What Envoy is told of an edit of the neighbour's: its whole table of routes, or all endpoints of its cluster.
//!
//! A policy is none of Envoy's: it would be a filter more, which costs every request.

use std::net::IpAddr;

use testkit::control_plane::Change;

use super::{Edit, ROUTES, mark};
use crate::{
    lab::backends::Port,
    subject::{
        envoy::{self, table},
        shared::AGGRESSOR,
    },
};

/// The neighbour's table and endpoints as they are now.
#[derive(Debug)]
pub(super) struct Tables {
    name: String,
    number: u64,
    routes: usize,
    server: IpAddr,
    /// The second is the one that comes and goes.
    ports: [u16; 2],
}

impl Tables {
    /// Whose servers are at this address.
    pub(super) fn at(server: IpAddr) -> Self {
        let port = |shift| Port::Http.number() + shift * envoy::SHIFT;
        let name = envoy::discovered(AGGRESSOR);
        Self { name, number: 0, routes: ROUTES, server, ports: [port(1), port(2)] }
    }

    pub(super) fn all(&self) -> Vec<Change> {
        vec![self.table(), self.endpoints(&self.ports)]
    }

    pub(super) fn edit(&mut self, edit: Edit) -> Vec<Change> {
        let change = match edit {
            Edit::Mark(number) => {
                self.number = number;
                self.table()
            }
            Edit::Route { there } => {
                self.routes = ROUTES + usize::from(there);
                self.table()
            }
            Edit::Endpoint { there } => self.endpoints(&self.ports[..1 + usize::from(there)]),
            // What is no message at all, of one length or another: a field that it does not know, Envoy passes over.
            Edit::Broken { other } => {
                Change::set(table::ROUTES, &self.name, &[0xff; 64][usize::from(other)..])
            }
            Edit::Policy { .. } => return Vec::new(),
        };
        vec![change]
    }

    fn table(&self) -> Change {
        let body = table::routes(&self.name, self.routes, &mark(self.number));
        Change::set(table::ROUTES, &self.name, &body)
    }

    fn endpoints(&self, ports: &[u16]) -> Change {
        Change::set(table::ENDPOINTS, &self.name, &table::endpoints(&self.name, self.server, ports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_but_a_policy_s_is_one_resource_that_says_something_else() {
        let mut tables = Tables::at([10, 77, 0, 3].into());
        let mut said = tables.all();
        assert_eq!(said.len(), 2);
        for edit in [
            Edit::Mark(17),
            Edit::Endpoint { there: false },
            Edit::Route { there: true },
            Edit::Broken { other: false },
            Edit::Broken { other: true },
        ] {
            let changes = tables.edit(edit);
            assert!(changes.len() == 1 && !said.contains(&changes[0]), "{edit:?}");
            assert_eq!(changes[0].name(), "aggressor-http");
            said.extend(changes);
        }
        assert!(tables.edit(Edit::Policy { other: true }).is_empty());
        tables.edit(Edit::Route { there: false });
        assert_eq!(tables.edit(Edit::Mark(0)), [said[0].clone()]);
        assert_eq!(tables.edit(Edit::Endpoint { there: true }), [said[1].clone()]);
    }
}
