//! Canopy's benchmarks: make bench.
