//! The form of the cache's file: a magic, then frames of a length (twice, once with its bits turned), a checksum and a record. Pure.
//!
//! Read from bytes that may be anything. It must never panic, take more memory than a small multiple of its input, or give a
//! resource out of a batch that was not written to its end.

use std::collections::{BTreeMap, BTreeSet};

use config::discovery::{Kind, Resource};

/// What a cache is of: one of something else is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The control plane.
    pub server: String,
    /// The cluster.
    pub cluster: String,
    /// The trust domain of identities.
    pub trust_domain: String,
    /// The name of the node.
    pub node: String,
    /// Whether Addresses are asked for one by one.
    pub on_demand: bool,
}

/// A record of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// What the file is of; the first, and only the first.
    Header(Vec<&'a str>),
    /// A resource that came.
    Set { type_url: &'a str, name: &'a str, version: &'a str, aliases: Vec<&'a str>, body: &'a [u8] },
    /// One that went.
    Removed { type_url: &'a str, name: &'a str },
    /// The end of a batch: all of it counts, but what was refused only where there is no earlier version.
    Done { refused: Vec<&'a str> },
    /// Of every type that is had as a whole, all is here.
    Complete,
}

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Log<'a> {
    /// Resources in force, each with where its record's frame is.
    pub live: BTreeMap<(Kind, &'a str), Place<'a>>,
    /// Whether of every type that is had as a whole all is here.
    pub is_complete: bool,
    /// Up to where the file counts; 0 where it has no header. What is after that was not written to its end.
    pub good: usize,
}

/// A resource, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// Where its frame begins.
    pub at: usize,
    /// The length of the frame.
    pub length: usize,
    /// Whether it was refused: it says what could not be read, which is refused again, in the same way.
    pub is_refused: bool,
    version: &'a str,
    aliases: Vec<&'a str>,
    body: &'a [u8],
}

/// Why a file is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It was not written by this version.
    #[error("it is not a cache of this version")]
    Format,
    /// It is of something else.
    #[error("it is of another control plane, cluster, trust domain or node")]
    Elsewhere,
    /// It is damaged.
    #[error("it is damaged at byte {0}")]
    Damaged(usize),
}

/// Reads a file, if it is of what `header` says.
pub fn read<'a>(bytes: &'a [u8], header: &Header) -> Result<Log<'a>, Unusable> {
    let mut log = Log::default();
    if MAGIC.starts_with(bytes) {
        return Ok(log);
    }
    if !bytes.starts_with(MAGIC) {
        return Err(Unusable::Format);
    }
    let mut batch = Vec::new();
    let mut at = MAGIC.len();
    while let Some((record, length)) = frame(bytes, at)? {
        let end = at + length;
        match record {
            Record::Header(said) if at == MAGIC.len() => {
                if said != header.fields() {
                    return Err(Unusable::Elsewhere);
                }
                log.good = end;
            }
            Record::Header(_) => return Err(Unusable::Damaged(at)),
            _ if at == MAGIC.len() => return Err(Unusable::Damaged(at)),
            Record::Set { .. } | Record::Removed { .. } => batch.push((at, length, record)),
            Record::Done { refused } => {
                log.apply(std::mem::take(&mut batch), &refused.into_iter().collect());
                log.good = end;
            }
            Record::Complete if batch.is_empty() => {
                log.is_complete = true;
                log.good = end;
            }
            Record::Complete => return Err(Unusable::Damaged(at)),
        }
        at = end;
    }
    Ok(log)
}

impl<'a> Log<'a> {
    fn apply(&mut self, batch: Vec<(usize, usize, Record<'a>)>, refused: &BTreeSet<&str>) {
        for (at, length, record) in batch {
            match record {
                Record::Set { type_url, name, version, aliases, body } => {
                    // A type that this version does not know is another's.
                    let Some(kind) = Kind::of(type_url) else { continue };
                    let is_refused = refused.contains(name);
                    let has_good = || self.live.get(&(kind, name)).is_some_and(|known| !known.is_refused);
                    if !(is_refused && has_good()) {
                        let place = Place { at, length, is_refused, version, aliases, body };
                        self.live.insert((kind, name), place);
                    }
                }
                Record::Removed { type_url, name } => {
                    let Some(kind) = Kind::of(type_url) else { continue };
                    self.live.remove(&(kind, name));
                }
                _ => {}
            }
        }
    }
}

impl Place<'_> {
    /// As it came.
    pub fn resource(&self, name: &str) -> Resource {
        Resource {
            name: name.to_owned(),
            aliases: self.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            version: self.version.to_owned(),
            body: self.body.to_vec(),
        }
    }
}

impl Header {
    fn fields(&self) -> Vec<&str> {
        let mode = if self.on_demand { "on-demand" } else { "all" };
        vec![&self.server, &self.cluster, &self.trust_domain, &self.node, mode]
    }

    /// The beginning of a file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        Record::Header(self.fields()).write(&mut bytes);
        bytes
    }
}

/// The record at a place and the length of its frame; `None` where the file ends, or what is there was not written to its end.
fn frame(bytes: &[u8], at: usize) -> Result<Option<(Record<'_>, usize)>, Unusable> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some((head, after)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    // A length that has changed would hide all that comes after it.
    if number(0) != !number(4) {
        let is_end = after.iter().all(|byte| *byte == 0);
        return if is_end { Ok(None) } else { Err(Unusable::Damaged(at)) };
    }
    let length = number(0) as usize;
    let Some(payload) = after.get(..length) else { return Ok(None) };
    if head[8..] != checksum(payload).to_le_bytes() {
        // A machine that stops may leave a last frame half written, or a file longer than what was written to it.
        let is_end = after.len() == length || rest.iter().all(|byte| *byte == 0);
        return if is_end { Ok(None) } else { Err(Unusable::Damaged(at)) };
    }
    match Record::read(payload) {
        Some(record) => Ok(Some((record, HEAD + length))),
        None => Err(Unusable::Damaged(at)),
    }
}

impl<'a> Record<'a> {
    /// Appends its frame.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        match self {
            Self::Header(fields) => {
                out.push(0);
                write_all(out, fields);
            }
            Self::Set { type_url, name, version, aliases, body } => {
                out.push(1);
                for part in [*type_url, *name, *version] {
                    write_part(out, part.as_bytes());
                }
                write_all(out, aliases);
                write_part(out, body);
            }
            Self::Removed { type_url, name } => {
                out.push(2);
                write_part(out, type_url.as_bytes());
                write_part(out, name.as_bytes());
            }
            Self::Done { refused } => {
                out.push(3);
                write_all(out, refused);
            }
            Self::Complete => out.push(4),
        }
        let payload = &out[start + HEAD..];
        let (length, sum) = (length_of(payload), checksum(payload));
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&(!length).to_le_bytes());
        out[start + 8..start + HEAD].copy_from_slice(&sum.to_le_bytes());
    }

    fn read(payload: &'a [u8]) -> Option<Self> {
        let (tag, mut rest) = payload.split_first()?;
        let rest = &mut rest;
        let record = match tag {
            0 => Self::Header(read_all(rest)?),
            1 => {
                let (type_url, name, version) = (read_text(rest)?, read_text(rest)?, read_text(rest)?);
                Self::Set { type_url, name, version, aliases: read_all(rest)?, body: read_part(rest)? }
            }
            2 => Self::Removed { type_url: read_text(rest)?, name: read_text(rest)? },
            3 => Self::Done { refused: read_all(rest)? },
            4 => Self::Complete,
            _ => return None,
        };
        rest.is_empty().then_some(record)
    }
}

fn write_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&length_of(part).to_le_bytes());
    out.extend_from_slice(part);
}

fn write_all(out: &mut Vec<u8>, parts: &[&str]) {
    // Messages are bounded far below that.
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for part in parts {
        write_part(out, part.as_bytes());
    }
}

fn length_of(part: &[u8]) -> u32 {
    u32::try_from(part.len()).unwrap_or(u32::MAX)
}

fn read_number(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

fn read_part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = read_number(rest)?;
    let (part, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(part)
}

fn read_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(read_part(rest)?).ok()
}

/// Grows with what is there, not with what is said to be.
fn read_all<'a>(rest: &mut &'a [u8]) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    for _ in 0..read_number(rest)? {
        parts.push(read_text(rest)?);
    }
    Some(parts)
}

/// FNV-1a, 64 bits: tells what was written by halves or has changed by chance. It is no protection from who may write the file.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// With the version of the form.
const MAGIC: &[u8] = b"canopy discovery 2\n";
/// Bytes before a record: its length twice, and its checksum.
const HEAD: usize = 16;

#[cfg(test)]
mod tests;
