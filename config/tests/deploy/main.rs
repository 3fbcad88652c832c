//! What is installed on a cluster (deploy/) says what the code and the documentation say: the definition of Tenant, rights, options,
//! metrics, and the chart. Only texts are compared: what a cluster makes of them is for tests on one.

mod chart;
mod manifests;
mod options;
mod overlays;
mod prose;
mod rights;
mod schema;
mod telemetry;
mod tenants;
mod webhook;
