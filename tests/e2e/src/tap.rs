//! What frames that were captured are looked at for.

/// Whether a packet has these bytes in it.
#[must_use]
pub fn contains(packet: &[u8], part: &[u8]) -> bool {
    packet.windows(part.len()).any(|window| window == part)
}

/// How a record of TLS begins that is encrypted.
pub const TLS_RECORD: [u8; 3] = [0x17, 3, 3];
