//! The version of a resource, in 16 bytes: of each that a stream has, one is held.

/// A version of ours. What is written otherwise is the version of somebody else, and equal to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Version(u128);

impl Version {
    /// The version that is written so.
    pub(super) fn of(text: &str) -> Option<Self> {
        let is_ours =
            text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u128::from_str_radix(text, 16).ok().filter(|_| is_ours).map(Self)
    }
}

/// Of 128 bits.
const DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_others_are_equal_to_none_of_ours() {
        let one = "0123456789abcdef0123456789abcdef";
        assert!(Version::of(one).is_some() && Version::of(one) != Version::of(&one.replace('1', "2")));
        let wrong =
            ["", "7", "0123456789ABCDEF0123456789ABCDEF", "+123456789abcdef0123456789abcdef", &one[1..]];
        for wrong in wrong {
            assert_eq!(Version::of(wrong), None, "{wrong}");
        }
    }
}
