//! The forest without a kernel's help: pods are this process's own namespace, steering is fake.
