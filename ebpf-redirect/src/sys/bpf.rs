//! Raw `bpf` calls: tables that are read and written through a shared reference (no lock on the path of a
//! connection), the making of links and the exchange of their programs, and pins.

use std::{
    ffi::CString,
    io,
    marker::PhantomData,
    mem::{MaybeUninit, size_of},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use ebpf_redirect_abi::{
    Decision, DenialKey, DeniedPort, Fence, FenceCounts, FlowKey, Gated, NetworkKey, Note, Pod, PortKey, Rate,
};

/// A type without padding and without invalid values, which may be exchanged with the kernel as bytes.
///
/// # Safety
/// Every bit pattern of the type's size must be a value, and no byte may be padding.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for i32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}
// SAFETY: `repr(C)` of integers without padding, as the abi crate demands and its tests check.
unsafe impl Plain for Note {}
// SAFETY: as above.
unsafe impl Plain for Decision {}
// SAFETY: as above.
unsafe impl Plain for Pod {}
// SAFETY: as above.
unsafe impl Plain for FlowKey {}
// SAFETY: as above.
unsafe impl Plain for NetworkKey {}
// SAFETY: as above.
unsafe impl Plain for PortKey {}
// SAFETY: as above.
unsafe impl Plain for Fence {}
// SAFETY: as above.
unsafe impl Plain for FenceCounts {}
// SAFETY: as above.
unsafe impl Plain for DenialKey {}
// SAFETY: as above.
unsafe impl Plain for DeniedPort {}
// SAFETY: as above.
unsafe impl Plain for Rate {}
// SAFETY: as above.
unsafe impl Plain for Gated {}

/// A map of the kernel, by key and value. Socket storage has descriptors as keys, arrays have indices.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    fd: OwnedFd,
    of: PhantomData<fn(K) -> V>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// The map behind a descriptor.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, of: PhantomData }
    }

    /// The map that is pinned there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        open_pin(path).map(Self::new)
    }

    /// A second descriptor of the map.
    pub(crate) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Whether the map is socket storage, with keys and values of these types' sizes. What came from elsewhere must be asked
    /// before it is read: the kernel writes values of the map's size, whatever room there is.
    pub(crate) fn is_socket_storage(&self) -> io::Result<bool> {
        let mut info = MapInfo::default();
        let attr = Info {
            fd: raw(self.fd.as_fd()),
            length: size_of::<MapInfo>() as u32,
            info: &raw mut info as u64,
        };
        // SAFETY: the kernel writes at most the length that is given.
        unsafe { call(OBJ_GET_INFO_BY_FD, &attr) }?;
        Ok(info.kind == SK_STORAGE
            && info.key_size as usize == size_of::<K>()
            && info.value_size as usize == size_of::<V>())
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::zeroed();
        let attr = Element::new(self.fd.as_fd(), key, value.as_mut_ptr());
        // SAFETY: key and value have the sizes of the map's, or the kernel refuses; the types are `Plain`.
        match unsafe { call(MAP_LOOKUP_ELEM, &attr) } {
            // SAFETY: written by the kernel in full.
            Ok(_) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The value of a key for every CPU, for per-CPU maps. The type's size must be a multiple of 8.
    pub(crate) fn get_per_cpu(&self, key: &K, cpus: usize) -> io::Result<Vec<V>>
    where
        V: Default,
    {
        const { assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds a CPU's value up to this") };
        let mut values = vec![V::default(); cpus];
        let attr = Element::new(self.fd.as_fd(), key, values.as_mut_ptr());
        // SAFETY: room for one value per possible CPU.
        unsafe { call(MAP_LOOKUP_ELEM, &attr) }?;
        Ok(values)
    }

    /// Writes the same value for every CPU, for per-CPU maps.
    pub(crate) fn set_per_cpu(&self, key: &K, value: &V, cpus: usize) -> io::Result<()> {
        const { assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds a CPU's value up to this") };
        let mut values = vec![*value; cpus];
        let attr = Element::new(self.fd.as_fd(), key, values.as_mut_ptr());
        // SAFETY: the kernel reads one value per possible CPU.
        unsafe { call(MAP_UPDATE_ELEM, &attr) }.map(drop)
    }

    /// Writes a value.
    pub(crate) fn set(&self, key: &K, value: &V) -> io::Result<()> {
        let attr = Element::new(self.fd.as_fd(), key, std::ptr::from_ref(value).cast_mut());
        // SAFETY: key and value have the sizes of the map's, or the kernel refuses; it only reads both.
        unsafe { call(MAP_UPDATE_ELEM, &attr) }.map(drop)
    }

    /// Removes a key; a missing one is none.
    pub(crate) fn remove(&self, key: &K) -> io::Result<()> {
        let attr = Element::new(self.fd.as_fd(), key, std::ptr::null_mut::<V>());
        // SAFETY: the kernel only reads the key.
        match unsafe { call(MAP_DELETE_ELEM, &attr) } {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Err(error),
            _ => Ok(()),
        }
    }

    /// All keys, as far as nobody removes them meanwhile.
    pub(crate) fn keys(&self) -> io::Result<Vec<K>> {
        let mut keys: Vec<K> = Vec::new();
        loop {
            let mut next = MaybeUninit::<K>::zeroed();
            let mut attr = Element { map_fd: raw(self.fd.as_fd()), ..Element::default() };
            attr.key = keys.last().map_or(0, |key| address(key));
            attr.value = next.as_mut_ptr() as u64;
            // SAFETY: the kernel reads one key, or none, and writes one.
            match unsafe { call(MAP_GET_NEXT_KEY, &attr) } {
                // SAFETY: written by the kernel in full.
                Ok(_) => keys.push(unsafe { next.assume_init() }),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Attaches a program to an interface of this thread's network namespace, before all others there. Minimum kernel: 6.6.
pub(crate) fn create_tcx_link(
    program: BorrowedFd<'_>,
    interface: u32,
    direction: Direction,
) -> io::Result<OwnedFd> {
    let attr = LinkCreate {
        prog_fd: raw(program),
        target: interface,
        attach_type: direction as u32,
        flags: BEFORE,
        relative: 0,
        unused: 0,
        expected_revision: 0,
    };
    // SAFETY: the kernel only reads numbers.
    let fd = unsafe { call(LINK_CREATE, &attr) }?;
    // SAFETY: a descriptor that the kernel has just given to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A side of an interface, with the kernel's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Direction {
    /// What comes in from the link.
    Ingress = 46,
    /// What goes out to the link.
    Egress = 47,
}

/// Keeps an object in the kernel under a path.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = Object { pathname: path.as_ptr() as u64, fd: raw(object), file_flags: 0 };
    // SAFETY: the path is a C string that outlives the call.
    unsafe { call(OBJ_PIN, &attr) }.map(drop)
}

/// Exchanges the program of a link in one step.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = LinkUpdate { link_fd: raw(link), new_prog_fd: raw(program), flags: 0, old_prog_fd: 0 };
    // SAFETY: the kernel only reads the two descriptors.
    unsafe { call(LINK_UPDATE, &attr) }.map(drop)
}

/// Ends a link now, rather than when its last holder is gone. Minimum kernel: 5.9.
pub(crate) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let attr = raw(link);
    // SAFETY: the kernel only reads the descriptor.
    unsafe { call(LINK_DETACH, &attr) }.map(drop)
}

/// A value that the kernel wrote as bytes.
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough; every bit pattern of a `Plain` type is a value; the read may be unaligned.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Opens what is pinned there.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = Object { pathname: path.as_ptr() as u64, fd: 0, file_flags: 0 };
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { call(OBJ_GET, &attr) }?;
    // SAFETY: a descriptor that the kernel has just given to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    fn new<K, V>(map: BorrowedFd<'_>, key: &K, value: *mut V) -> Self {
        Self { map_fd: raw(map), unused: 0, key: address(key), value: value as u64, flags: 0 }
    }
}

#[repr(C)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of the kernel's `bpf_map_info`; it writes as much as is asked for. For a descriptor of another kind it writes
/// what that has at its beginning, which is as large in all of them.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    unused: u32,
    expected_revision: u64,
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
struct Object {
    pathname: u64,
    fd: u32,
    file_flags: u32,
}

/// # Safety
/// The addresses in `attr` must be valid for what the command reads and writes.
unsafe fn call<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a prefix of the kernel's union, which takes the rest as zero; see above for the rest.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;
/// `BPF_F_BEFORE`, and without another program that means: first.
const BEFORE: u32 = 1 << 3;
/// `BPF_MAP_TYPE_SK_STORAGE`.
const SK_STORAGE: u32 = 24;
