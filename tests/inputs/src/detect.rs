//! Any first bytes: a verdict that more bytes never change, in time, and HTTP only where an HTTP parser would go on.

use node_proxy::accept::{
    Protocol,
    detect::{self, ENOUGH, Verdict},
};

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let mut before = Verdict::Undecided;
    for length in 0..=bytes.len().min(ENOUGH + 8) {
        let beginning = &bytes[..length];
        let now = detect::detect(beginning);
        assert!(before == Verdict::Undecided || before == now, "{length}: {before:?}, then {now:?}");
        assert!(length < ENOUGH || now != Verdict::Undecided, "{length}: undecided");
        if before == Verdict::Undecided && now == Verdict::Is(Protocol::Http1) {
            let mut headers = [httparse::EMPTY_HEADER; 4];
            assert!(
                httparse::Request::new(&mut headers).parse(beginning).is_ok(),
                "{}",
                beginning.escape_ascii()
            );
        }
        let _ = detect::settle(beginning);
        before = now;
    }
}
