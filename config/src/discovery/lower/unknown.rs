//! The wire under messages of authorization: which fields there are that nobody here knows. Decoding drops them in silence, and with
//! them a condition.

/// A field of a message, as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its number.
    pub(super) number: u32,
    /// Its bytes, if it is a message, a text or the like.
    pub(super) bytes: Option<&'a [u8]>,
}

/// All fields of a message in order; `None` if it is none.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let value = match tag & 7 {
            0 => varint(&mut bytes).map(|_| None)?,
            1 => take(&mut bytes, 8).map(|_| None)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Some(take(&mut bytes, length)?)
            }
            5 => take(&mut bytes, 4).map(|_| None)?,
            // Groups: nobody writes them any more.
            _ => return None,
        };
        fields.push(Field { number, bytes: value });
    }
    Some(fields)
}

/// The messages in a field, in order.
pub(super) fn messages<'a>(fields: &[Field<'a>], number: u32) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| field.number == number).filter_map(|field| field.bytes).collect()
}

/// Whether there is a field of another number.
pub(super) fn has_others(fields: &[Field<'_>], known: &[u32]) -> bool {
    fields.iter().any(|field| !known.contains(&field.number))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::discovery::messages::{Match, StringMatch, string_match::Type};

    #[test]
    fn a_field_of_a_number_that_nobody_knows_is_seen() {
        let text = StringMatch { r#type: Some(Type::Exact("a".to_owned())) };
        let known = Match { principals: vec![text], destination_ports: vec![80], ..Match::default() };
        let mut bytes = known.encode_to_vec();
        assert!(!has_others(&fields(&bytes).unwrap(), &[3, 9]));
        bytes.extend([0xf2, 0x06, 1, 7]);
        assert!(has_others(&fields(&bytes).unwrap(), &[3, 9]));
        assert_eq!(Match::decode(bytes.as_slice()).unwrap(), known, "decoding drops it");
    }

    proptest! {
        #[test]
        fn whatever_bytes_there_are_is_read_without_end_or_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let known = Match::decode(bytes.as_slice());
            let walked = fields(&bytes);
            // What can be decoded can be walked, groups aside.
            let groups = bytes.iter().any(|byte| matches!(byte & 7, 3 | 4));
            prop_assert!(known.is_err() || walked.is_some() || groups);
        }
    }
}
