//! The code of the program and its libraries, as far as it is mapped: starting runs much that never runs again, and the
//! kernel keeps it mapped, 64 KiB around every page that was touched.
//!
//! Only what is executable and read-only is ever given back, since that alone is sure to be in its file as it is in memory.

use std::{ffi::c_void, fs, io, ops::Range};

use rustix::mm::{Advice, madvise};

/// Unmaps all code until it runs again, when it comes from the page cache: about a hundred faults of a microsecond each.
/// Says how many bytes of address space that were.
///
/// # Errors
/// `/proc/self/maps` cannot be read, or the kernel refuses: nothing is lost then but memory.
#[expect(unsafe_code, reason = "the kernel's advice on memory takes addresses")]
pub fn unmap_idle() -> io::Result<usize> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut bytes = 0;
    for Range { start, end } in maps.lines().filter_map(code) {
        // SAFETY: the range is mapped from a file, executable and not writable. Nobody has written to it (there are no
        // relocations in code), so that at its next touch the same bytes are there again.
        unsafe { madvise(start as *mut c_void, end - start, Advice::LinuxDontNeed) }?;
        bytes += end - start;
    }
    Ok(bytes)
}

/// The range of a line of `/proc/PID/maps` (proc_pid_maps(5)) that is a file's code.
fn code(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, access, file) = (fields.next()?, fields.next()?, fields.nth(3)?);
    if access != "r-xp" || !file.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_executable_and_read_only_count_as_code() {
        for (line, range) in [
            ("5601000-5609000 r-xp 00001000 fe:00 12 /bin/canopy", Some(0x560_1000..0x560_9000)),
            ("7f00000-7f01000 r-xp 00000000 fe:00 13 /lib/libc.so.6", Some(0x7f0_0000..0x7f0_1000)),
            ("5600000-5601000 r--p 00000000 fe:00 12 /bin/canopy", None),
            ("5609000-560a000 rw-p 00009000 fe:00 12 /bin/canopy", None),
            ("7f02000-7f03000 rwxp 00000000 fe:00 12 /bin/canopy", None),
            ("7f01000-7f02000 r-xp 00000000 00:00 0", None),
            ("7ffff00-7ffff01 r-xp 00000000 00:00 0 [vdso]", None),
            ("not a line", None),
        ] {
            assert_eq!(code(line), range, "{line}");
        }
    }

    #[test]
    fn the_program_goes_on_after_its_code_was_unmapped() {
        assert!(unmap_idle().unwrap() > 0);
        assert_eq!("it still runs".len(), 13);
    }
}
