//! A proxy within its pod: the same stages, for one pod, whatever captures its connections and whoever is at the other end.

mod capture;
mod envoy;
mod life;
mod mixed;
mod policy;
mod scene;
