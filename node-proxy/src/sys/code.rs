//! The program's own code in memory. Starting reads manifests, loads programs and sets up much that never runs again, and the
//! kernel keeps whatever ran mapped; given back, what is needed comes again from the page cache, page by page.
//!
//! It must never touch memory that was written to: nothing but read-only mappings of the program's file that are executable.

use std::{ffi::c_void, fs, io, ops::Range, path::Path};

use rustix::mm::{Advice, madvise};

/// Unmaps the pages of the program's code until they are needed again. Says how many bytes of code there are.
#[expect(unsafe_code, reason = "advice on memory is given by address")]
pub fn let_go() -> io::Result<usize> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut bytes = 0;
    for Range { start, end } in code_of(&maps, &program) {
        // SAFETY: the range is mapped from the program's file, executable and not writable, for as long as the process lives.
        // No page of it was ever written to, so all of them can be had from the file again, and are, at the next touch.
        unsafe { madvise(start as *mut c_void, end - start, Advice::LinuxDontNeed) }?;
        bytes += end - start;
    }
    Ok(bytes)
}

/// The private, executable, read-only mappings of a program, out of the text of `/proc/PID/maps` (proc_pid_maps(5)).
fn code_of(maps: &str, program: &Path) -> Vec<Range<usize>> {
    let range = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (range, access) = (fields.next()?, fields.next()?);
        let file = fields.nth(3)?;
        if access != "r-xp" || Path::new(file) != program {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_the_program_itself_is_taken() {
        let maps = "\
5600000-5601000 r--p 00000000 fe:00 12 /bin/canopy
5601000-5609000 r-xp 00001000 fe:00 12 /bin/canopy
5609000-560a000 rw-p 00009000 fe:00 12 /bin/canopy
7f00000-7f01000 r-xp 00000000 fe:00 13 /lib/libc.so.6
7f01000-7f02000 r-xp 00000000 00:00 0
7f02000-7f03000 rwxp 00000000 fe:00 12 /bin/canopy
7ffff00-7ffff01 r-xp 00000000 00:00 0 [vdso]
not a line
";
        assert_eq!(
            code_of(maps, Path::new("/bin/canopy")),
            vec![Range { start: 0x560_1000, end: 0x560_9000 }]
        );
        assert!(code_of(maps, Path::new("/bin/other")).is_empty());
    }

    #[test]
    fn the_program_goes_on_after_its_code_was_let_go() {
        assert!(let_go().unwrap() > 0);
        assert_eq!("it still runs".len(), 13);
    }
}
