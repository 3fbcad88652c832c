//! The daemon: a listener forest, one tree per workload identity, one cell per tenant.
//!
//! The modules below stand in the order of a connection's life; read `path` first. None imports one of a later group, but
//! for what `tests/e2e/tests/house.rs` names with its reason, which also reads these groups.

// What any stage may use.
pub mod handoff;
pub mod hbone;
pub mod snapshot;
pub mod stream;
pub mod sys;
pub mod telemetry;
pub mod tenancy;

// The stages, in path order.
pub mod capture;

pub mod accept;

pub mod identity;

pub mod policy;

pub mod route;

pub mod balance;

pub mod upstream;

pub mod relay;

// What carries a connection through them.
pub mod cell;
pub mod path;

// What makes cells, feeds them, and shows them.
pub mod forest;

pub mod control;

// The plugin by which pods come to the gate of `control`.
pub mod cni;

// What is told of decisions, by those who make them.
pub mod explain;

pub mod mode;

pub mod admin;

pub mod app;

pub mod cli;
