//! A real Kubernetes, and Canopy installed on it as its documentation says. Run by `make test-cluster`, on a cluster that is up.

mod lab;

mod pods;

mod capture;

mod gate;

mod life;

mod rights;

mod services;

mod faults;

mod installation;
