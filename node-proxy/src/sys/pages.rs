//! Memory of this process as the kernel sees it: how much is resident, and what of it are pages of files and stacks.
//!
//! Reading it walks the process's page tables, about a millisecond for each hundred megabytes: never on a thread that anybody waits for.

use std::{fs, io};

/// Resident bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pages {
    /// All of them.
    pub all: u64,
    /// Of files: programs, libraries, and what was changed of them.
    pub files: u64,
    /// Of stacks, of the first thread and of the others.
    pub stacks: u64,
}

/// As it is now.
pub fn resident() -> io::Result<Pages> {
    Ok(read(&fs::read_to_string("/proc/self/smaps")?))
}

/// From the text of proc_pid_smaps(5): for each mapping a line of its own with six words and maybe a name, then its figures.
fn read(smaps: &str) -> Pages {
    let (mut pages, mut mapping) = (Pages::default(), Mapping::default());
    for line in smaps.lines() {
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "Rss:" => {
                let kilobytes = rest.split_whitespace().next().and_then(|number| number.parse().ok());
                mapping.resident = 1024 * kilobytes.unwrap_or(0_u64);
            }
            // The last of its figures.
            "VmFlags:" => {
                mapping.add_to(&mut pages, rest);
                mapping = Mapping::default();
            }
            _ if !key.ends_with(':') => mapping = Mapping { kind: Kind::of(rest), resident: 0 },
            _ => {}
        }
    }
    pages
}

#[derive(Debug, Default)]
struct Mapping {
    kind: Kind,
    resident: u64,
}

#[derive(Debug, Default, Clone, Copy)]
enum Kind {
    File,
    Stack,
    #[default]
    Anonymous,
}

impl Kind {
    /// From what follows the addresses: `rw-p 00000000 00:00 0   [stack]`.
    fn of(words: &str) -> Self {
        match words.split_whitespace().nth(4) {
            Some(name) if name.starts_with('/') => Self::File,
            Some("[stack]") => Self::Stack,
            _ => Self::Anonymous,
        }
    }
}

impl Mapping {
    fn add_to(&self, pages: &mut Pages, flags: &str) {
        pages.all += self.resident;
        match self.kind {
            Kind::File => pages.files += self.resident,
            Kind::Stack => pages.stacks += self.resident,
            // MAP_STACK means no huge pages since Linux 6.7, and nothing else here asks for that.
            Kind::Anonymous if flags.split_whitespace().any(|flag| flag == "nh") => {
                pages.stacks += self.resident
            }
            Kind::Anonymous => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{hint, sync::mpsc, thread};

    use super::*;

    #[test]
    fn files_stacks_and_the_rest_are_told_apart() {
        let text = "\
55d0-55d1 r-xp 00000000 fe:00 123   /usr/bin/canopy
Size:   8 kB
Rss:    7 kB
VmFlags: rd ex mr
7f00-7f10 rw-p 00000000 00:00 0
Rss:    40 kB
VmFlags: rd wr mr nr sd
7f10-7f20 rw-p 00000000 00:00 0
Rss:    12 kB
VmFlags: rd wr mr nh
7ffe-7fff rw-p 00000000 00:00 0     [stack]
Rss:    3 kB
VmFlags: rd wr gd
";
        let kilobytes = 1024;
        let wanted = Pages { all: 62 * kilobytes, files: 7 * kilobytes, stacks: 15 * kilobytes };
        assert_eq!(read(text), wanted);
    }

    #[test]
    fn this_process_has_files_and_what_a_thread_touches_of_its_stack() {
        let before = resident().unwrap();
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            hint::black_box([7_u8; 1 << 18]);
            tell.send(()).unwrap();
            let _ = stopped.recv();
        });
        told.recv().unwrap();
        let with = resident().unwrap();
        drop(stop);
        thread.join().unwrap();
        assert!(before.files > 0 && with.all > with.files + with.stacks, "{with:?}");
        // Where the kernel says of stacks that they are.
        if before.stacks > 1 << 15 {
            assert!(with.stacks >= 1 << 18, "{before:?} {with:?}");
        }
    }
}
