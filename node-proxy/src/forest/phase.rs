//! The life of the forest: which states it goes through, in this order.

/// Where the forest is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Waiting for the first configuration.
    Starting,
    /// Every pod of the first configuration is enrolled, or it was said why not.
    Ready,
    /// No new connections; those that are there finish.
    Draining,
    /// Every cell has ended.
    Stopped,
}
