//! What goes between the daemon and a cell in a process of its own: a closed set of frames each way, as bytes and descriptors.
//!
//! A frame is a header with the set's version, and the frame's bytes (postcard); where these are too long for a packet, the first
//! descriptor holds them, sealed. The daemon must never believe a frame of a cell's: it may be anything. So taking one apart is
//! pure, bounded, and ends in a frame or in one error.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::sys::packets::{self, Packet, Packets};

pub use self::{
    from_cell::{RowTold, Said},
    to_cell::{Begin, Ends, LineTold, Told},
};

mod from_cell;
mod to_cell;

#[cfg(test)]
mod tests;

/// Of the set of frames. Whoever changes what a frame carries counts it up.
pub const VERSION: u16 = 5;

/// The most bytes beside a packet that the daemon reads of a cell's: none, all that a cell says fits in one.
pub const MOST_SAID: usize = 0;
/// The most that a cell reads of the daemon's: a mesh of a hundred thousand pods is a tenth of it.
pub const MOST_TOLD: usize = 1 << 30;

/// Why something is not a frame.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It does not begin as one.
    #[error("what came is no frame")]
    Foreign,
    /// It is of another version of the set.
    #[error(
        "a frame of version {0} came, and only version {VERSION} is spoken: both ends must be one build of canopy"
    )]
    Version(u16),
    /// It is not what its version says.
    #[error("a frame is broken")]
    Broken,
    /// It has other descriptors than it needs.
    #[error("a frame came with {got} descriptors, not with {wanted}")]
    Descriptors {
        /// How many came.
        got: usize,
        /// How many it needs.
        wanted: usize,
    },
    /// The system did not do its part.
    #[error("a frame cannot be carried")]
    Carriage(#[from] io::Error),
}

/// Where the bytes of a frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// After the header.
    Here = 0,
    /// In the first descriptor.
    Beside = 1,
}

const MAGIC: [u8; 4] = *b"cell";
const HEADER: usize = MAGIC.len() + 3;

/// Sends a frame with descriptors.
pub async fn send<T: Serialize>(
    packets: &Packets,
    frame: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), WireError> {
    let bytes = encode(frame);
    if bytes.len() <= packets::BYTES {
        return Ok(packets.send(&bytes, descriptors).await?);
    }
    let body = packets::sealed(bytes.get(HEADER..).unwrap_or_default())?;
    let all: Vec<BorrowedFd<'_>> = std::iter::once(body.as_fd()).chain(descriptors.iter().copied()).collect();
    Ok(packets.send(&header(Place::Beside), &all).await?)
}

/// The next frame, of `most` bytes, with its descriptors; `None` when the other end is gone.
pub async fn receive<T: DeserializeOwned>(
    packets: &Packets,
    most: usize,
) -> Result<Option<(T, Vec<OwnedFd>)>, WireError> {
    let received = receive_measured(packets, most).await?;
    Ok(received.map(|(frame, descriptors, _)| (frame, descriptors)))
}

/// As `receive`, with the packet's bytes.
pub async fn receive_measured<T: DeserializeOwned>(
    packets: &Packets,
    most: usize,
) -> Result<Option<(T, Vec<OwnedFd>, usize)>, WireError> {
    let Some(Packet { bytes, mut descriptors }) = packets.receive().await? else { return Ok(None) };
    let (place, rest) = read_header(&bytes)?;
    let frame = match place {
        Place::Here => read_body(rest)?,
        Place::Beside if descriptors.is_empty() => return Err(WireError::Descriptors { got: 0, wanted: 1 }),
        Place::Beside => read_body(&packets::unsealed(descriptors.remove(0), most)?)?,
    };
    Ok(Some((frame, descriptors, bytes.len())))
}

/// A frame as one row of bytes, its header first.
pub fn encode<T: Serialize>(frame: &T) -> Vec<u8> {
    // Only a type that cannot be bytes at all would fail, which the first test of it shows; it would be read as broken.
    postcard::to_extend(frame, header(Place::Here)).unwrap_or_default()
}

/// Takes such a row apart.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match read_header(bytes)? {
        (Place::Here, rest) => read_body(rest),
        (Place::Beside, _) => Err(WireError::Descriptors { got: 0, wanted: 1 }),
    }
}

fn header(place: Place) -> Vec<u8> {
    let [low, high] = VERSION.to_le_bytes();
    let mut header = MAGIC.to_vec();
    header.extend([low, high, place as u8]);
    header
}

fn read_header(bytes: &[u8]) -> Result<(Place, &[u8]), WireError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(WireError::Foreign)?;
    let Some(([low, high, place], rest)) = rest.split_first_chunk() else { return Err(WireError::Foreign) };
    match (u16::from_le_bytes([*low, *high]), *place) {
        (VERSION, 0) => Ok((Place::Here, rest)),
        (VERSION, 1) if rest.is_empty() => Ok((Place::Beside, rest)),
        (VERSION, _) => Err(WireError::Broken),
        (other, _) => Err(WireError::Version(other)),
    }
}

fn read_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((frame, [])) => Ok(frame),
        Ok(_) | Err(_) => Err(WireError::Broken),
    }
}
