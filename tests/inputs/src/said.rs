//! Whatever a cell in a process of its own says to the daemon, as bytes: a frame of the set or one error, never a panic, and never
//! more memory than its bytes are worth.

use node_proxy::forest::wire::{self, Said};

/// What is read can be said again, and whatever is not is one error.
pub fn holds(bytes: &[u8]) {
    let _ = wire::decode::<Said>(bytes);
    // Past the header, which nothing else would get by often.
    let header = wire::encode(&Said::Certificates(Vec::new()));
    let header = header.get(..7).unwrap_or_default();
    if let Ok(said) = wire::decode::<Said>(&[header, bytes].concat()) {
        let again = wire::encode(&said);
        assert!(wire::decode::<Said>(&again).is_ok(), "what was read can be said again");
    }
}
