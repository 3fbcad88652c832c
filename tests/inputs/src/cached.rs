//! Any bytes as the cache of a control plane's words: no panic, nothing is read that is not there, and what counts of a file counts
//! without what comes after it.
//!
//! With the bit of 1 in the first byte, what follows are payloads, each after its length (two bytes), which are framed here as the
//! cache frames them; otherwise it is the file.

use node_proxy::control::discovery::cache::{Header, read};

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let file = if how & 1 == 0 { bytes.to_vec() } else { framed(bytes) };
    let empty = String::new;
    let header =
        Header { server: empty(), cluster: empty(), trust_domain: empty(), node: empty(), on_demand: false };
    let Ok(log) = read(&file, &header) else { return };
    assert!(log.good <= file.len());
    for ((_, name), place) in &log.live {
        assert!(place.at + place.length <= log.good, "{name}: more than was written to its end");
        let resource = place.resource(name);
        assert!(resource.body.len() + resource.name.len() < place.length, "{name}: more than its record has");
    }
    let counted = file.get(..log.good).unwrap_or_default();
    assert_eq!(read(counted, &header).ok(), Some(log), "what comes after it changes what counts");
}

fn framed(mut bytes: &[u8]) -> Vec<u8> {
    let mut file = b"canopy discovery 2\n".to_vec();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (payload, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        bytes = rest;
        let length = u32::try_from(payload.len()).unwrap_or_default();
        file.extend(length.to_le_bytes());
        file.extend((!length).to_le_bytes());
        file.extend(checksum(payload).to_le_bytes());
        file.extend(payload);
    }
    file
}

/// FNV-1a, 64 bits, as the form has it.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
