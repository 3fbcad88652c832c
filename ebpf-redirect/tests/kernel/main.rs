//! Steering by the kernel's hooks, on the kernel of this machine: real network namespaces, real sockets. Needs root;
//! without it every test fails and says so.
#![expect(clippy::unwrap_used, reason = "the lint knows test functions, not what they call")]

mod support;

mod applications;
mod crowding;
mod delegation;
mod deliveries;
mod fence;
mod gates;
mod inbound;
mod leaving;
mod lifecycle;
mod probing;
mod rates;
mod refusals;
mod remains;
mod survival;
mod watching;
