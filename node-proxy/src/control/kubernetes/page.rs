//! What an API server says, read: a page of a list, an event of a watch.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    api::{ApiError, Refusal},
    kinds::Resource,
    object::Object,
};

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    /// As of when it is.
    pub(super) version: String,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<String>,
}

/// An event of a watch.
#[derive(Debug)]
pub(super) enum Event {
    /// An object is there, new or changed.
    There(Box<Object>, String),
    /// It is gone.
    Gone(Box<Object>, String),
    /// All that there was until then has been said.
    Until(String),
    /// The watch is over.
    Over(ApiError),
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    r#continue: String,
}

#[derive(Deserialize)]
struct Told<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Versioned {
    metadata: ListMeta,
}

impl Page {
    pub(super) fn read(resource: &Resource, version: &str, bytes: &[u8]) -> Result<Self, ApiError> {
        let unreadable = |error: serde_json::Error| ApiError::Unreadable(error.to_string());
        let List { metadata, items } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if metadata.resource_version.is_empty() {
            return Err(ApiError::Unreadable("a list that does not say as of when it is".to_owned()));
        }
        let objects = items.unwrap_or_default().into_iter();
        let objects = objects.map(|raw| object(resource, version, raw)).collect::<Result<_, _>>()?;
        let next = Some(metadata.r#continue).filter(|next| !next.is_empty());
        Ok(Self { objects, version: metadata.resource_version, next })
    }
}

impl Event {
    pub(super) fn read(resource: &Resource, version: &str, line: &[u8]) -> Result<Self, ApiError> {
        let unreadable = |error: serde_json::Error| ApiError::Unreadable(error.to_string());
        let Told { r#type, object: raw } = serde_json::from_slice(line).map_err(unreadable)?;
        if r#type == "ERROR" {
            let refusal: Refusal = serde_json::from_str(raw.get()).map_err(unreadable)?;
            return Ok(Self::Over(refusal.into()));
        }
        let Versioned { metadata } = serde_json::from_str(raw.get()).map_err(unreadable)?;
        let at = metadata.resource_version;
        if at.is_empty() {
            return Err(ApiError::Unreadable("an event that does not say as of when it is".to_owned()));
        }
        match r#type {
            "BOOKMARK" => Ok(Self::Until(at)),
            "ADDED" | "MODIFIED" => Ok(Self::There(Box::new(object(resource, version, raw)?), at)),
            "DELETED" => Ok(Self::Gone(Box::new(object(resource, version, raw)?), at)),
            // Of a later API: what it means is not known, and so the list is asked for.
            other => Err(ApiError::Unreadable(format!("an event of type {other:?}"))),
        }
    }
}

/// An API server has no object without a name: what it says beside one is not to be believed either.
fn object(resource: &Resource, version: &str, raw: &RawValue) -> Result<Object, ApiError> {
    let read = Object::read(resource, version, raw.get());
    read.map_err(|error| ApiError::Unreadable(format!("a {}: {error}", resource.kind)))
}
