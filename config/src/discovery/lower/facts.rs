//! The model's own objects, as JSON: the body of a resource, or the extension of one of Istio's.
//!
//! An object must never be taken under another name than its resource's, nor with a field that is not understood.

use serde::de::DeserializeOwned;

use super::{Bad, decode, names};
use crate::{
    discovery::messages::{Extension, Facts},
    document::shorten,
    finding::Reason,
    lower::undescribed,
    model::{NamespaceFacts, Tenant},
    name::TenantId,
};

/// Whose extension says everything of the model.
const EXTENSION: &str = "canopy.mesh/v1alpha1";
/// What it holds.
const FACTS: &str = "type.googleapis.com/canopy.mesh.v1alpha1.Facts";

/// The object that a body is.
pub(super) fn of_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Bad> {
    read(&decode::<Facts>(body, "message of Canopy's")?.json)
}

/// The object that is said beside Istio's words, if there is one.
pub(super) fn of_extension<T: DeserializeOwned>(extensions: &[Extension]) -> Result<Option<T>, Bad> {
    let mut own = extensions.iter().filter(|extension| extension.name == EXTENSION);
    let Some(extension) = own.next() else { return Ok(None) };
    if own.next().is_some() {
        return Err(Bad::new(Reason::Duplicate, format!("has the extension {EXTENSION} twice")));
    }
    let Some(config) = &extension.config else {
        return Err(Bad::new(Reason::MissingField, format!("its extension {EXTENSION} is empty")));
    };
    if config.type_url != FACTS {
        let message =
            format!("its extension {EXTENSION} is of type {}, not {FACTS}", shorten(&config.type_url));
        return Err(Bad::new(Reason::WrongType, message));
    }
    read(&decode::<Facts>(&config.value, "message of Canopy's")?.json).map(Some)
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T, Bad> {
    serde_json::from_str(json).map_err(|error| {
        let text = error.to_string();
        let reason = match error.classify() {
            _ if text.starts_with("unknown field") => Reason::UnknownField,
            _ if text.starts_with("missing field") => Reason::MissingField,
            serde_json::error::Category::Data => Reason::InvalidValue,
            _ => Reason::Malformed,
        };
        Bad::new(reason, format!("its JSON cannot be read here: {}", shorten(&text)))
    })
}

/// Refuses an object that says another name than its resource.
pub(super) fn check_name<N: PartialEq + std::fmt::Display>(said: &N, name: &N) -> Result<(), Bad> {
    if said == name { Ok(()) } else { Err(Bad::invalid(format!("says that it is {said}"))) }
}

/// A Tenant. A namespace by itself has itself alone.
pub(super) fn tenant(name: &str, body: &[u8]) -> Result<Tenant, Bad> {
    let read: Tenant = of_body(body)?;
    let id = names::tenant(name)?;
    if read.id != id {
        return Err(Bad::invalid(format!("says that it is {}", read.id)));
    }
    match &id {
        TenantId::Namespace(own) if read.namespaces != [own.clone()] => {
            Err(Bad::new(Reason::NotPermitted, "a namespace by itself has itself alone as namespace"))
        }
        _ => Ok(read),
    }
}

/// A Namespace. Its label of its own name could make it pass for another.
pub(super) fn namespace(name: &str, body: &[u8]) -> Result<NamespaceFacts, Bad> {
    let read: NamespaceFacts = of_body(body)?;
    check_name(&read.name, &names::namespace(name)?)?;
    let own = undescribed(read.name.clone()).labels;
    match own.into_iter().find(|(key, value)| read.labels.get(key) != Some(value)) {
        Some((key, value)) => Err(Bad::invalid(format!("its label {key} must be {value}"))),
        None => Ok(read),
    }
}

/// The namespaces of a Tenant that cannot be read, where that much can be.
pub(super) fn namespaces_at_least(body: &[u8]) -> Option<Vec<crate::name::Namespace>> {
    let facts = decode::<Facts>(body, "message").ok()?;
    let value: serde_json::Value = serde_json::from_str(&facts.json).ok()?;
    let named = value.get("namespaces")?.as_array()?.iter();
    named.map(|name| name.as_str()?.try_into().ok()).collect()
}
