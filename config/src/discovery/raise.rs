//! Raising: the model in the messages of discovery, the opposite of lowering.
//!
//! Istio's words for those who know no others, and beside them the model's own object for those who do. What Istio's words cannot
//! say must never be said more openly in them.

use std::net::IpAddr;

use prost::Message;
use serde::Serialize;

use super::messages::{Any, Extension, Facts};

pub(super) mod authorization;
pub(super) mod service;
pub(super) mod workload;

/// The name of the extension that carries the model's own object.
pub const EXTENSION: &str = "canopy.mesh/v1alpha1";
/// The type of what it carries, which is [`Facts`].
pub const FACTS: &str = "type.googleapis.com/canopy.mesh.v1alpha1.Facts";

/// An object of the model as a body of its own.
pub(super) fn facts<T: Serialize>(object: &T) -> Facts {
    // Cannot fail: whatever has keys in the model has texts as keys. An empty text would be refused by whoever reads it.
    Facts { json: serde_json::to_string(object).unwrap_or_default() }
}

/// An object of the model beside Istio's words for it.
fn extension<T: Serialize>(object: &T) -> Extension {
    let value = facts(object).encode_to_vec();
    Extension { name: EXTENSION.to_owned(), config: Some(Any { type_url: FACTS.to_owned(), value }) }
}

/// An address as its 4 or 16 bytes.
fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests;
