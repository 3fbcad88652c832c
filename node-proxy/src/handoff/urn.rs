//! What is left of the pipes that this thread made, until the other thread has let go of them.
//!
//! A small block of memory that another thread frees ends up in that thread's cache, is used there again, and stays charged to
//! this one: without bound, as connections come and go. So whoever made a pipe frees it, last. Only a thread that ends leaves
//! that to others, once.

use std::cell::RefCell;

use super::pipe::Remains;
use crate::tenancy::{Payer, meter};

thread_local! {
    /// With who pays for them, until they are freed.
    static URN: RefCell<Vec<(Option<Payer>, Remains)>> = const { RefCell::new(Vec::new()) };
}

/// Frees these when the other thread has let go of them: now, or at a later [`sweep`].
pub(super) fn keep(remains: Remains) {
    if remains.are_free() {
        return;
    }
    // Where the thread is ending already, they are dropped here.
    let _ = URN.try_with(|urn| urn.borrow_mut().push((meter::current(), remains)));
}

/// Frees what the other threads have let go of. To be called now and then by every thread that makes pipes.
pub fn sweep() {
    let _ = URN.try_with(|urn| {
        let mut urn = urn.borrow_mut();
        if !urn.is_empty() {
            for (payer, remains) in urn.extract_if(.., |(_, remains)| remains.are_free()) {
                let _turn = payer.as_ref().map(Payer::turn);
                drop(remains);
            }
            if urn.is_empty() {
                urn.shrink_to_fit();
            }
        }
    });
}

#[cfg(test)]
pub(super) fn held() -> usize {
    URN.with_borrow(Vec::len)
}
