//! What a server's first word says of TLS: version, suite, key exchange (RFC 8446, section 4.1.3).
//!
//! It is read from the segment that begins with it, as far as that goes; what is not there is not guessed.

/// `None` where the bytes do not begin with a ServerHello.
pub(super) fn said(payload: &[u8]) -> Option<String> {
    let mut hello = Bytes(payload);
    // The record: handshake, version 3.x, length; in it the message: server_hello, length.
    let [22, 3, _, _, _, 2, _, _, _] = hello.array()? else { return None };
    let version = u16::from_be_bytes(hello.array()?);
    hello.array::<32>()?;
    let [session] = hello.array()?;
    hello.skip(session.into())?;
    let suite = u16::from_be_bytes(hello.array()?);
    let (mut version, mut group) = (version, None);
    let _compression_and_length: Option<[u8; 3]> = hello.array();
    while let Some([a, b, c, d]) = hello.array() {
        let (kind, length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let mut content = hello;
        match kind {
            SUPPORTED_VERSIONS => version = content.array().map_or(version, u16::from_be_bytes),
            KEY_SHARE => group = content.array().map(u16::from_be_bytes),
            _ => {}
        }
        if hello.skip(length.into()).is_none() {
            break;
        }
    }
    let group = group.map_or("unseen".to_owned(), name_of_group);
    Some(format!("{}, {}, {group}", name_of_version(version), name_of_suite(suite)))
}

#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }
}

fn name_of_version(version: u16) -> String {
    match version {
        0x0304 => "TLS 1.3".into(),
        0x0303 => "TLS 1.2".into(),
        other => format!("version {other:#06x}"),
    }
}

fn name_of_suite(suite: u16) -> String {
    match suite {
        0x1301 => "AES_128_GCM_SHA256".into(),
        0x1302 => "AES_256_GCM_SHA384".into(),
        0x1303 => "CHACHA20_POLY1305_SHA256".into(),
        other => format!("suite {other:#06x}"),
    }
}

fn name_of_group(group: u16) -> String {
    match group {
        0x11ec => "X25519MLKEM768".into(),
        0x001d => "X25519".into(),
        0x0017 => "secp256r1".into(),
        other => format!("group {other:#06x}"),
    }
}

/// Types of extensions.
const SUPPORTED_VERSIONS: u16 = 43;
/// See [`SUPPORTED_VERSIONS`].
const KEY_SHARE: u16 = 51;

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(suite: [u8; 2], extensions: &[u8]) -> Vec<u8> {
        let head = [&[22, 3, 3, 4, 200, 2, 0, 4, 196, 3, 3][..], &[7; 32], &[2, 9, 9]].concat();
        let length = (extensions.len() as u16).to_be_bytes();
        [&head[..], &suite, &[0], &length, extensions].concat()
    }

    #[test]
    fn version_and_group_are_of_the_extensions_where_the_segment_has_them() {
        let versions = [0, 43, 0, 2, 3, 4];
        // The key itself goes on in the next segment.
        let key = [0, 51, 4, 100, 0x11, 0xec, 4, 96, 1, 2, 3];
        let whole = hello([0x13, 1], &[&versions[..], &key].concat());
        assert_eq!(said(&whole).unwrap(), "TLS 1.3, AES_128_GCM_SHA256, X25519MLKEM768");
        let old = hello([0xc0, 0x2b], &[]);
        assert_eq!(said(&old).unwrap(), "TLS 1.2, suite 0xc02b, unseen");
    }

    #[test]
    fn what_is_no_servers_first_word_says_nothing_and_nothing_panics() {
        assert_eq!(said(&[23, 3, 3, 0, 5, 1, 2, 3, 4, 5]), None);
        let whole = hello([0x13, 1], &[0, 43, 0, 2, 3, 4]);
        for cut in 0..48 {
            assert_eq!(said(&whole[..cut.min(45)]), None, "{cut}");
        }
    }
}
