//! The life of the forest: which states it goes through, in this order.

/// Where the forest is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Waiting for the first configuration.
    Starting,
    /// Every pod of the first configuration is enrolled, or it was said why not.
    Ready,
    /// What was there finishes. Pods that are let go begin theirs past the proxy; those that are to be refused are served
    /// until nothing of what was there is left.
    Draining,
    /// Every cell has ended.
    Stopped,
}
