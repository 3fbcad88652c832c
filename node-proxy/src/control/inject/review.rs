//! The API server's question and its answer: `AdmissionReview` of admission.k8s.io/v1.
//!
//! A pod that asks for a sidecar and cannot have one is refused: it would run in the clear where its author thinks otherwise. Of the question
//! nothing is held but what is read.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use config::opt_in::{MODE, Mode};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Terms, patch};

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    kind: Kind,
    operation: String,
    sub_resource: Option<String>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// What is answered to a review; what is none, and why. Without roots, it is not known yet what sidecars are made with.
pub(super) fn answer(review: &[u8], terms: &Terms, roots: Option<&str>) -> serde_json::Result<Value> {
    let Review { request } = serde_json::from_slice(review)?;
    let mut response = json!({ "uid": request.uid, "allowed": true });
    let refuse = |response: &mut Value, message: &str, code: u16| {
        response["allowed"] = false.into();
        response["status"] = json!({ "code": code, "message": format!("canopy: {message}") });
    };
    if asks(&request)? {
        let pod = request.object.map_or("null", RawValue::get);
        match roots.map(|roots| patch(pod, terms, roots)) {
            None => refuse(&mut response, "its certificate authority is not ready: try again", 503),
            Some(Err(refusal)) => refuse(&mut response, &refusal.to_string(), 422),
            Some(Ok(patch)) if patch.is_empty() => {}
            Some(Ok(patch)) => {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = STANDARD.encode(Value::Array(patch).to_string()).into();
            }
        }
    }
    Ok(json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
}

/// Whether a pod is to have a sidecar. By which labels of namespaces it is asked, the webhook's selectors say; a pod's own counts for more.
fn asks(request: &Request<'_>) -> serde_json::Result<bool> {
    #[derive(Deserialize)]
    struct Labelled {
        #[serde(default)]
        metadata: Labels,
    }
    #[derive(Default, Deserialize)]
    struct Labels {
        labels: Option<BTreeMap<String, String>>,
    }
    let is_whole = request.sub_resource.as_deref().is_none_or(str::is_empty);
    if request.kind.kind != "Pod" || request.operation != "CREATE" || !is_whole {
        return Ok(false);
    }
    let labelled: Option<Labelled> =
        request.object.map(|object| serde_json::from_str(object.get())).transpose()?;
    let labels = labelled.and_then(|labelled| labelled.metadata.labels).unwrap_or_default();
    let mode = labels.get(MODE).and_then(|mode| Mode::of(mode));
    Ok(mode.is_none_or(|mode| mode == Mode::Sidecar))
}
