//! The API server's question and its answer: `AdmissionReview` of admission.k8s.io/v1.
//!
//! A pod that asks for a sidecar and cannot have one is refused: it would run in the clear where its author thinks otherwise.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use config::opt_in::{MODE, Mode};
use serde_json::{Value, json};

use super::{Terms, patch};

/// What is answered to a review; nothing to what is none. Without roots, it is not known yet what sidecars are made with.
pub(super) fn answer(review: &[u8], terms: &Terms, roots: Option<&str>) -> Option<Value> {
    let review: Value = serde_json::from_slice(review).ok()?;
    let request = review.get("request")?;
    let uid = request.get("uid")?.as_str()?;
    let mut response = json!({ "uid": uid, "allowed": true });
    let refuse = |response: &mut Value, message: &str, code: u16| {
        response["allowed"] = false.into();
        response["status"] = json!({ "code": code, "message": format!("canopy: {message}") });
    };
    if asks(request) {
        match roots.map(|roots| patch(&request["object"], terms, roots)) {
            None => refuse(&mut response, "its certificate authority is not ready: try again", 503),
            Some(Err(refusal)) => refuse(&mut response, &refusal.to_string(), 422),
            Some(Ok(patch)) if patch.is_empty() => {}
            Some(Ok(patch)) => {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = STANDARD.encode(Value::Array(patch).to_string()).into();
            }
        }
    }
    Some(json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
}

/// Whether a pod is to have a sidecar. By which labels of namespaces it is asked, the webhook's selectors say; a pod's own counts for more.
fn asks(request: &Value) -> bool {
    let is_pod = request["kind"]["kind"] == "Pod"
        && request["operation"] == "CREATE"
        && request["subResource"].is_null();
    let mode = request["object"]["metadata"]["labels"][MODE].as_str().and_then(Mode::of);
    is_pod && mode.is_none_or(|mode| mode == Mode::Sidecar)
}
