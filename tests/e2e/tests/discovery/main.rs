//! A daemon that is told of its mesh by discovery, by a control plane of another make (go-control-plane, which does the protocol by
//! itself): what it is told in Istio's words and in the model's own is obeyed, what is not understood is refused alone, and
//! traffic does not notice when who tells is away, slow or restarted.

mod away;
mod demand;
mod met;
mod obeyed;
mod own;
mod paged;
mod refused;
mod said;
mod shop;
mod skew;
mod waypoint;
