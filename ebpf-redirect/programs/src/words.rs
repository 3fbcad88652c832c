//! Reading an address from a context. Word by word: LLVM merges plain neighbouring reads, which the verifier refuses.

/// The four words there.
///
/// # Safety
/// `at` is a field of a hook's context, four words long.
#[inline(always)]
pub unsafe fn words(at: *const u32) -> [u32; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        [at.read_volatile(), at.add(1).read_volatile(), at.add(2).read_volatile(), at.add(3).read_volatile()]
    }
}
