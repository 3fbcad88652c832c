//! One resource as it travels, and why one is not taken.

use super::Kind;
use crate::finding::Reason;

/// A resource as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name, by which it is asked for, replaced and removed. Unique in its type.
    pub name: String,
    /// Other names by which it may be asked for: of workloads and Services, `NETWORK/ADDRESS`.
    pub aliases: Vec<String>,
    /// Of its content: the same content has the same version, wherever it was made.
    pub version: String,
    /// The message of its type, encoded.
    pub body: Vec<u8>,
}

/// Why a resource is not taken. An earlier version stays in force; where there is none, and it protects something, the strictest
/// reading of it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its type.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, and what to do about it.
    pub message: String,
}
