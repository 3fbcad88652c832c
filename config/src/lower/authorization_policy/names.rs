//! Whether a text that is compared with a caller's principal or namespace could be anybody's. Pure.
//!
//! A rule must never be taken whose text nobody can be like: a policy that denies by it would deny nobody, and one that allows all
//! others would let in whom it names.

use crate::{
    document::shorten,
    identity::{Identity, TrustDomain},
    model::TextMatch,
    name::{Namespace, ServiceAccount},
};

/// With what a text is compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of {
    /// `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    Principal,
    /// A namespace's name.
    Namespace,
}

/// What to write instead of a text that nobody's can be like.
pub(super) fn complaint(of: Of, text: &str) -> Option<String> {
    if could_match(of, &TextMatch::from(text)) {
        return None;
    }
    let written = shorten(text);
    Some(match (of, text.strip_prefix("spiffe://")) {
        (Of::Principal, Some(rest)) => {
            format!(
                "{written:?} is nobody's: a principal is written without spiffe://, as {:?}",
                shorten(rest)
            )
        }
        (Of::Principal, None) if text.starts_with("ns/") => format!(
            "{written:?} is nobody's: a principal begins with its trust domain; write {:?} for any",
            shorten(&format!("*/{text}"))
        ),
        (Of::Principal, None) => format!(
            "{written:?} is nobody's: must be TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT, its beginning and *, * and its end, or *"
        ),
        (Of::Namespace, _) => format!(
            "{written:?} is no namespace: must be the name of one, its beginning and *, * and its end, or *"
        ),
    })
}

fn could_match(of: Of, wanted: &TextMatch) -> bool {
    match (of, wanted) {
        (_, TextMatch::Present) => true,
        (Of::Principal, TextMatch::Exact(whole)) => format!("spiffe://{whole}").parse::<Identity>().is_ok(),
        (Of::Principal, TextMatch::Prefix(start)) => {
            let parts: Vec<&str> = start.split('/').collect();
            fits(&parts, &SEGMENTS, |word, part| word.starts_with(part))
        }
        (Of::Principal, TextMatch::Suffix(end)) => {
            let parts: Vec<&str> = end.rsplit('/').collect();
            let mut backwards = SEGMENTS;
            backwards.reverse();
            fits(&parts, &backwards, |word, part| word.ends_with(part))
        }
        (Of::Namespace, TextMatch::Exact(whole)) => Namespace::try_from(whole.as_str()).is_ok(),
        (Of::Namespace, TextMatch::Prefix(part) | TextMatch::Suffix(part)) => Segment::Namespace.has(part),
    }
}

/// A part of a principal between slashes.
#[derive(Debug, Clone, Copy)]
enum Segment {
    TrustDomain,
    Word(&'static str),
    Namespace,
    Account,
}

const SEGMENTS: [Segment; 5] =
    [Segment::TrustDomain, Segment::Word("ns"), Segment::Namespace, Segment::Word("sa"), Segment::Account];

/// Whether parts could be these segments, of the last of which there may be only a piece.
fn fits(parts: &[&str], segments: &[Segment], is_piece: impl Fn(&str, &str) -> bool) -> bool {
    let Some((last, whole)) = parts.split_last() else { return true };
    let Some(of_last) = segments.get(whole.len()) else { return false };
    let begun = match of_last {
        Segment::Word(word) => is_piece(word, last),
        other => other.has(last),
    };
    begun && whole.iter().zip(segments).all(|(part, segment)| segment.is(part))
}

impl Segment {
    fn is(self, part: &str) -> bool {
        match self {
            Self::TrustDomain => TrustDomain::try_from(part).is_ok(),
            Self::Word(word) => part == word,
            Self::Namespace => Namespace::try_from(part).is_ok(),
            Self::Account => ServiceAccount::try_from(part).is_ok(),
        }
    }

    /// Whether this could be a piece of it, or nothing yet.
    fn has(self, piece: &str) -> bool {
        let other = match self {
            Self::TrustDomain => "._",
            Self::Account => ".",
            Self::Word(_) | Self::Namespace => "",
        };
        let is_its = |character: char| {
            character.is_ascii_lowercase()
                || character.is_ascii_digit()
                || character == '-'
                || other.contains(character)
        };
        piece.chars().all(is_its)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_refused_where_nobodys_can_be_like_it() {
        let table: [(Of, &[&str], &[&str]); 2] = [
            (
                Of::Principal,
                &[
                    "*",
                    "cluster.local/ns/bank/sa/x",
                    "td_1/ns/bank/sa/x.y",
                    "cluster.local/ns/bank/*",
                    "cluster.local/n*",
                    "cluster*",
                    "spiffe*",
                    "cluster.local/ns/bank/sa/x*",
                    "*/ns/bank/sa/x",
                    "*/sa/x",
                    "*s/bank/sa/x",
                    "*x",
                ],
                &[
                    "",
                    "spiffe://cluster.local/ns/bank/sa/x",
                    "spiffe://cluster.local/ns/bank/*",
                    "ns/bank/sa/x",
                    "bank/x",
                    "x",
                    "cluster.local/bank/sa/x",
                    "cluster.local/ns/bank/sa/x/y",
                    "cluster.local/ns/bank/sa/x/*",
                    "cluster.local/ns/ba*k/sa/x",
                    "cluster.local//*",
                    "Cluster.local/ns/bank/sa/x",
                    "*spiffe://cluster.local/ns/bank/sa/x",
                    "*cluster.local/ns/bank/sa/x*",
                    "*/y/cluster.local/ns/bank/sa/x",
                    "*//sa/x",
                ],
            ),
            (
                Of::Namespace,
                &["*", "bank", "bank*", "bank-*", "*bank", "*-bank"],
                &["", "bank/x", "Bank", "ns/bank", "bank*x", "*bank*", "a.b", " bank", "bank/*"],
            ),
        ];
        for (of, good, bad) in table {
            for text in good {
                assert_eq!(complaint(of, text), None, "{of:?} {text}");
            }
            for text in bad {
                assert!(complaint(of, text).is_some(), "{of:?} {text:?} is nobody's");
            }
        }
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        for (text, instead) in [
            ("spiffe://cluster.local/ns/bank/sa/x", "as \"cluster.local/ns/bank/sa/x\""),
            ("ns/bank/sa/x", "write \"*/ns/bank/sa/x\""),
            ("bank", "must be TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT"),
        ] {
            let said = complaint(Of::Principal, text).unwrap();
            assert!(said.contains(instead), "{said}");
        }
    }
}
