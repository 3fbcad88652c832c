//! Exchanges without a protocol: so many bytes out, so many back.
//!
//! It never looks at what the bytes are, only at how many came.

use super::LoadError;

/// Counts the bytes of one answer at a time.
#[derive(Debug)]
pub(crate) struct Raw {
    request: Vec<u8>,
    answer: usize,
    missing: usize,
    intended: u64,
}

impl Raw {
    /// `bytes` there and back.
    pub(crate) fn echo(bytes: usize) -> Self {
        Self { request: vec![b'x'; bytes], answer: bytes, missing: 0, intended: 0 }
    }

    /// The number of bytes asked for, as 8 bytes, little end first; so many back.
    pub(crate) fn bulk(bytes: usize) -> Self {
        Self { request: (bytes as u64).to_le_bytes().to_vec(), answer: bytes, missing: 0, intended: 0 }
    }

    pub(crate) fn request(&mut self, intended: u64, out: &mut Vec<u8>) {
        self.intended = intended;
        self.missing = self.answer;
        out.extend_from_slice(&self.request);
    }

    pub(crate) fn received(&mut self, count: usize, done: &mut Vec<u64>) -> Result<(), LoadError> {
        self.missing = self.missing.checked_sub(count).ok_or(LoadError::Surplus)?;
        if self.missing == 0 {
            done.push(self.intended);
        }
        Ok(())
    }
}
