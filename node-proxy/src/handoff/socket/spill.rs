//! Bytes of a packet that its reader had no room for. It must never hold more than was on its way.

use tokio::io::ReadBuf;

use super::wire::MOST;

/// Bytes that wait to be asked for. Without memory until there are some.
#[derive(Debug, Default)]
pub(super) struct Spill {
    bytes: Vec<u8>,
    poured: usize,
    filled: usize,
}

impl Spill {
    /// Moves what it can into the buffer; `false` where there is nothing, or nothing is wanted that is there.
    pub(super) fn pour(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let waiting = &self.bytes[self.poured..self.filled];
        let part = &waiting[..waiting.len().min(buffer.remaining())];
        buffer.put_slice(part);
        self.poured += part.len();
        let any = self.filled > 0;
        if self.poured == self.filled {
            (self.poured, self.filled) = (0, 0);
        }
        any
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.filled - self.poured
    }

    /// Room for a packet, after what is there.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() < self.filled + MOST {
            self.bytes.resize(self.filled + MOST, 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// So many bytes of the room were filled.
    pub(super) fn filled(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.bytes.len());
    }
}
