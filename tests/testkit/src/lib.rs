//! Network namespaces, pods and real servers for Canopy's tests, demo and benchmarks.
