//! Versions of resources: 128 bits of what they say, so that two control planes, and one before and after it is started again, call
//! the same content the same.
//!
//! SipHash-2-4 with a key that is known: it tells versions apart, it must never be what proves that anything is authentic.

use std::fmt;

/// The version of a body. Prints as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version([u8; 16]);

impl Version {
    /// Of a body.
    pub(super) fn of(body: &[u8]) -> Self {
        Self(siphash([0, 0], body))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// SipHash-2-4 with an output of 128 bits (Aumasson and Bernstein, "SipHash: a fast short-input PRF", and its reference code).
fn siphash(key: [u64; 2], bytes: &[u8]) -> [u8; 16] {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        compress(&mut state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The lowest byte of the length is the highest of the last word.
    last[7] = bytes.len().to_le_bytes()[0];
    compress(&mut state, u64::from_le_bytes(last));
    state[2] ^= 0xee;
    let first = finish(&mut state);
    state[1] ^= 0xdd;
    let second = finish(&mut state);
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&first.to_le_bytes());
    hash[8..].copy_from_slice(&second.to_le_bytes());
    hash
}

fn compress(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    (0..2).for_each(|_| round(state));
    state[0] ^= word;
}

fn finish(state: &mut [u64; 4]) -> u64 {
    (0..4).for_each(|_| round(state));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_that_of_the_reference() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let bytes: Vec<u8> = (0..64).collect();
        for (length, expected) in [
            (0, "a3817f04ba25a8e66df67214c7550293"),
            (1, "da87c1d86b99af44347659119b22fc45"),
            (2, "8177228da4a45dc7fca38bdef60affe4"),
        ] {
            assert_eq!(Version(siphash(key, &bytes[..length])).to_string(), expected, "{length}");
        }
    }

    #[test]
    fn every_byte_counts_whatever_its_place() {
        let mut versions = std::collections::BTreeSet::new();
        for length in 0..40 {
            let mut body = vec![0; length];
            assert!(versions.insert(Version::of(&body).to_string()), "{length} zeros");
            for place in 0..length {
                body[place] = 1;
                assert!(versions.insert(Version::of(&body).to_string()), "{place} of {length}");
                body[place] = 0;
            }
        }
    }
}
