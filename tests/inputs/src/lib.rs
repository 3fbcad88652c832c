//! What holds whatever a stranger sends: one file for each target of `tests/fuzz`, which looks for bytes of which it does
//! not hold. The seeds are those that once were such, and those that the search begins with: a test puts each to its file.
//!
//! Nothing here may depend on the fuzzing runtime, or on anything but the bytes.

// Manifests.
pub mod lowering;
pub mod said;
pub mod scalars;

// What a connection begins with.
pub mod certificates;
pub mod connect_request;
pub mod detect;

// What a request says.
pub mod baggage_forwarded;
pub mod heads;
pub mod routing;

// What an authority answers, and what it is asked.
pub mod answers;
pub mod requests;

// What a control plane says, and what is kept of it.
pub mod cached;
pub mod discovered;

// What other plugins and a runtime say of a pod's network.
pub mod networks;

mod head;

/// The text that bytes begin with.
fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}
