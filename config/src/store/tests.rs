//! Files over time.
