//! What the control plane said last, on disk: from which a node starts while it is away.
//!
//! Written by the thread of the connection. What was refused leaves the version before it; where there is none it is kept, so that
//! what stands in for it does so after a start, too. It must never be believed where it is damaged or of something else, or end
//! the conversation because a disk is full.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use config::discovery::{Kind, Resource};

use self::log::{Record, Unusable};

pub use self::log::{Header, Log, read};

mod log;

/// The cache; without a file, it does nothing.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    header: Header,
    file: Option<Open>,
}

/// The file, and what of it counts.
#[derive(Debug)]
struct Open {
    file: File,
    /// Held, so that two daemons do not write one file.
    _lock: File,
    length: u64,
    live: HashMap<(Kind, String), Spot>,
    live_bytes: u64,
    batch: Vec<Change>,
    is_complete: bool,
}

/// Where the record of a resource is.
#[derive(Debug, Clone, Copy)]
struct Spot {
    at: u64,
    length: u64,
    is_refused: bool,
}

/// A record of the batch that is not over: where its frame is, if it is of something that came.
#[derive(Debug)]
struct Change {
    kind: Kind,
    name: String,
    set: Option<Spot>,
}

/// What a file had at start.
#[derive(Debug, Default)]
pub struct Stored {
    bytes: Vec<u8>,
    /// Whether a node may serve by it.
    pub is_complete: bool,
}

impl Cache {
    /// None.
    pub fn off() -> Self {
        let header = Header {
            server: String::new(),
            cluster: String::new(),
            trust_domain: String::new(),
            node: String::new(),
            on_demand: false,
        };
        Self { path: PathBuf::new(), header, file: None }
    }

    /// That of a directory, and what it has. Where it cannot be had, that is said, and there is none.
    pub fn open(directory: &Path, header: Header) -> (Self, Stored) {
        let mut cache = Self { path: directory.join(FILE), header, file: None };
        match cache.start(directory) {
            Ok(stored) => (cache, stored),
            Err(error) => {
                let path = cache.path.display();
                tracing::warn!(%error, "{path} cannot be used: this node could not start while the control plane is away");
                (cache, Stored::default())
            }
        }
    }

    fn start(&mut self, directory: &Path) -> io::Result<Stored> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = File::open(directory)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::other("another daemon has it: give each its own --discovery-cache"))?;
        let file = options().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        if !file.metadata()?.is_file() || file.metadata()?.len() > LARGEST {
            return Err(io::Error::other("it is too large, or no file: remove it"));
        }
        let mut bytes = Vec::new();
        (&file).take(LARGEST).read_to_end(&mut bytes)?;
        let mut open = Open {
            file,
            _lock: lock,
            length: 0,
            live: HashMap::new(),
            live_bytes: 0,
            batch: Vec::new(),
            is_complete: false,
        };
        match read(&bytes, &self.header) {
            Ok(log) => open.adopt(&log),
            Err(unusable) => open.file = self.put_aside(unusable)?,
        }
        // What was not written to its end is in nobody's way.
        open.file.set_len(open.length)?;
        if open.length == 0 {
            open.append(&self.header.to_bytes())?;
        }
        let is_complete = open.is_complete;
        self.file = Some(open);
        Ok(Stored { bytes, is_complete })
    }

    /// Out of the way, but there for who wants to know; gives a new file.
    fn put_aside(&self, unusable: Unusable) -> io::Result<File> {
        let path = self.path.display();
        if unusable == Unusable::Elsewhere {
            tracing::warn!("{path} is not used, and begun anew: {unusable}");
        } else {
            let aside = self.path.with_extension("unusable");
            fs::rename(&self.path, &aside)?;
            tracing::warn!("{path} is not used, and was moved to {}: {unusable}", aside.display());
        }
        options().read(true).write(true).create(true).truncate(true).open(&self.path)
    }

    /// Notes a batch that is not taken in yet.
    pub fn write(&mut self, kind: Kind, set: &[Resource], removed: &[String]) {
        self.with(|open, _, _| open.write(kind, set, removed));
    }

    /// Ends the batch: it was taken in, but for these.
    pub fn settle(&mut self, refused: &[&str]) {
        self.with(|open, path, header| {
            open.settle(refused)?;
            let dead = open.length.saturating_sub(open.live_bytes);
            if dead > open.live_bytes.max(SMALLEST) {
                open.compact(path, header)?;
            }
            if open.length > LARGEST {
                return Err(io::Error::other("it has grown too large"));
            }
            Ok(())
        });
    }

    /// Notes that all is here that is had as a whole.
    pub fn complete(&mut self) {
        self.with(|open, _, _| {
            if open.is_complete {
                return Ok(());
            }
            open.is_complete = true;
            open.put(&Record::Complete).map(drop)
        });
    }

    /// An error is said once; from then on there is none, until the next start.
    fn with(&mut self, write: impl FnOnce(&mut Open, &Path, &Header) -> io::Result<()>) {
        let Self { path, header, file } = self;
        let Some(open) = file else { return };
        if let Err(error) = write(open, path, header) {
            let path = path.display();
            tracing::warn!(%error, "{path} cannot be written: there is no cache until the next start of the daemon");
            self.file = None;
            self.discard();
        }
    }
}

impl Cache {
    /// What is in a file that does not go on would be believed at the next start, however old it is by then.
    fn discard(&self) {
        // Where neither can be done, the disk has more to say.
        let _ = File::options().write(true).open(&self.path).and_then(|file| file.set_len(0));
        let _ = fs::remove_file(&self.path);
    }
}

impl Stored {
    /// The resources of one type after the other, so many at a time.
    pub fn batches<'a>(&'a self, header: &Header) -> impl Iterator<Item = (Kind, Vec<Resource>)> + use<'a> {
        // It was read before; reading again is cheaper than to hold what was read twice.
        let mut rest = read(&self.bytes, header).unwrap_or_default().live.into_iter().peekable();
        std::iter::from_fn(move || {
            let kind = rest.peek()?.0.0;
            let of_kind = std::iter::from_fn(|| rest.next_if(|((next, _), _)| *next == kind));
            Some((kind, of_kind.take(AT_ONCE).map(|((_, name), place)| place.resource(name)).collect()))
        })
    }
}

impl Open {
    fn adopt(&mut self, log: &Log<'_>) {
        self.length = log.good as u64;
        self.is_complete = log.is_complete;
        for ((kind, name), place) in &log.live {
            self.live_bytes += place.length as u64;
            let (at, length, is_refused) = (place.at as u64, place.length as u64, place.is_refused);
            self.live.insert((*kind, (*name).to_owned()), Spot { at, length, is_refused });
        }
    }

    fn write(&mut self, kind: Kind, set: &[Resource], removed: &[String]) -> io::Result<()> {
        let mut buffer = Vec::new();
        let type_url = kind.type_url();
        for name in removed {
            Record::Removed { type_url, name }.write(&mut buffer);
            self.batch.push(Change { kind, name: name.clone(), set: None });
        }
        for resource in set {
            let start = buffer.len();
            let aliases = resource.aliases.iter().map(String::as_str).collect();
            let Resource { name, version, body, .. } = resource;
            Record::Set { type_url, name, version, aliases, body }.write(&mut buffer);
            let (at, length) = (self.length + start as u64, (buffer.len() - start) as u64);
            let spot = Spot { at, length, is_refused: false };
            self.batch.push(Change { kind, name: name.clone(), set: Some(spot) });
            if buffer.len() > PIECE {
                self.append(&buffer)?;
                buffer.clear();
            }
        }
        self.append(&buffer)
    }

    fn settle(&mut self, refused: &[&str]) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.put(&Record::Done { refused: refused.to_vec() })?;
        let refused: BTreeSet<&str> = refused.iter().copied().collect();
        for Change { kind, name, set } in std::mem::take(&mut self.batch) {
            let is_refused = refused.contains(name.as_str());
            let key = (kind, name);
            let before = match set {
                Some(_) if is_refused && self.live.get(&key).is_some_and(|known| !known.is_refused) => {
                    continue;
                }
                Some(spot) => {
                    self.live_bytes += spot.length;
                    self.live.insert(key, Spot { is_refused, ..spot })
                }
                None => self.live.remove(&key),
            };
            self.live_bytes -= before.map_or(0, |spot| spot.length);
        }
        Ok(())
    }

    /// Writes what counts into a new file, which takes the place of the old one.
    fn compact(&mut self, path: &Path, header: &Header) -> io::Result<()> {
        let beside = path.with_extension("new");
        let file = options().read(true).write(true).create(true).truncate(true).open(&beside)?;
        let mut out = BufWriter::new(file);
        let beginning = header.to_bytes();
        out.write_all(&beginning)?;
        let mut length = beginning.len() as u64;
        let mut spots: Vec<_> = self.live.iter_mut().collect();
        spots.sort_by_key(|((kind, _), spot)| (*kind, spot.at));
        let mut buffer = Vec::new();
        for of_kind in spots.chunk_by_mut(|one, other| one.0.0 == other.0.0) {
            let mut refused = Vec::new();
            for ((_, name), spot) in of_kind {
                buffer.resize(usize::try_from(spot.length).map_err(io::Error::other)?, 0);
                self.file.read_exact_at(&mut buffer, spot.at)?;
                out.write_all(&buffer)?;
                (spot.at, length) = (length, length + spot.length);
                refused.extend(spot.is_refused.then_some(name.as_str()));
            }
            buffer.clear();
            Record::Done { refused }.write(&mut buffer);
            out.write_all(&buffer)?;
            length += buffer.len() as u64;
        }
        let mut end = Vec::new();
        if self.is_complete {
            Record::Complete.write(&mut end);
        }
        out.write_all(&end)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        (self.file, self.length) = (file, length + end.len() as u64);
        Ok(())
    }

    fn put(&mut self, record: &Record<'_>) -> io::Result<()> {
        let mut buffer = Vec::new();
        record.write(&mut buffer);
        self.append(&buffer)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// For the daemon's user alone, and never through a link.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

/// The file's name in its directory.
const FILE: &str = "discovery.log";
/// A file that is larger is not written any further.
const LARGEST: u64 = 1 << 30;
/// Bytes that may be dead whatever lives: a small file is not written anew all the time.
const SMALLEST: u64 = 1 << 20;
/// Bytes that are written at once, about.
const PIECE: usize = 1 << 20;
/// Resources of a batch at start.
const AT_ONCE: usize = 1000;

#[cfg(test)]
mod tests;
