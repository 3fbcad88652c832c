//! One file per promise, run on real network namespaces and a real kernel.
