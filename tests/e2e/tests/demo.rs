//! `make demo` tells the truth, ends by itself, and leaves nothing behind: when it ends, when it is
//! interrupted, and, once it has run again, when it was killed.

use std::{
    cell::RefCell,
    fs, io,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use e2e::{built, eventually, files_of, groups_of, processes_of, repository};
use rustix::process::{Pid, Signal, kill_process};
use testkit::Outcome;

/// The demo's namespaces have fixed names, so there is one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn demo_holds_what_it_claims_and_leaves_nothing() -> Outcome {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::new()?;
    let output = demo.run(&[])?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}\n{failed}");
    for step in 1..=9 {
        assert!(told.contains(&format!("\n{step}. ")), "step {step} is missing:\n{told}");
    }
    assert_tells_how_to_explore_on(&told)?;
    demo.assert_nothing_left()
}

/// After its last heading, each by a command that there is.
fn assert_tells_how_to_explore_on(told: &str) -> Outcome {
    let makefile = fs::read_to_string(repository().join("Makefile"))?;
    let (_, end) = told.rsplit_once("Done in ").ok_or("it does not say that it is done")?;
    let lines = end.lines().skip(1).map(|line| line.trim_start_matches([' ', '│']));
    let (mut verbs, mut targets) = (0, 0);
    for line in lines.filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("make"), Some(target)) => {
                assert!(makefile.contains(&format!("\n{target}:")), "no such target: {line}");
                targets += 1;
            }
            (Some("target/debug/canopy"), Some(verb)) => {
                let help = Command::new(built("canopy")).args([verb, "--help"]).output()?;
                assert!(help.status.success(), "no such verb: {line}");
                verbs += 1;
            }
            _ => return Err(format!("neither a verb nor a target: {line}").into()),
        }
    }
    assert!(verbs >= 2 && targets >= 2, "it does not say how to explore on:\n{end}");
    Ok(())
}

#[test]
fn interrupted_at_any_time_the_demo_leaves_nothing() -> Outcome {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::new()?;
    for after in [100, 400, 900, 2_500, 5_000] {
        let mut running = demo.start()?;
        eventually("it heeds the signal", || catches(running.id(), Signal::INT))?;
        thread::sleep(Duration::from_millis(after));
        kill_process(pid(&running)?, Signal::INT)?;
        let status = running.wait()?;
        assert_eq!(status.code(), Some(130), "interrupted after {after} ms");
        demo.assert_nothing_left()?;
    }
    Ok(())
}

#[test]
fn a_demo_whose_time_is_over_fails_and_leaves_nothing() -> Outcome {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::new()?;
    let output = demo.run(&["--limit", "2"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not over within its time"));
    demo.assert_nothing_left()
}

#[test]
fn what_a_killed_demo_left_is_removed_by_the_next() -> Outcome {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::new()?;
    let mut killed = demo.start()?;
    eventually("it has begun", || namespaces().is_ok_and(|made| !made.is_empty()))?;
    thread::sleep(Duration::from_millis(2_500));
    kill_process(pid(&killed)?, Signal::KILL)?;
    killed.wait()?;
    assert!(demo.assert_nothing_left().is_err(), "there was something to remove");
    let output = demo.run(&[])?;
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{failed}", String::from_utf8_lossy(&output.stdout));
    demo.assert_nothing_left()
}

#[test]
fn a_claim_that_does_not_hold_fails_the_demo() -> Outcome {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // The same example with its split the other way round: the first claim of step 3 is then not so.
    let other = tempfile::tempdir()?;
    for entry in fs::read_dir(repository().join("examples/two-tenants"))?.flatten() {
        let text = fs::read_to_string(entry.path())?;
        let text = text.replace("weight: 90", "weight: 5").replace("weight: 10", "weight: 95");
        fs::write(other.path().join(entry.file_name()), text)?;
    }
    let demo = Demo::new()?;
    let output = demo.run(&["--config", &other.path().to_string_lossy()])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("split 90:10"));
    demo.assert_nothing_left()
}

/// Demos that share a folder for what is temporary, which has nothing else in it. Each leads a session of its own, so that what
/// it has started is known, whatever that calls itself.
struct Demo {
    folder: tempfile::TempDir,
    sessions: RefCell<Vec<u32>>,
}

impl Demo {
    fn new() -> Result<Self, io::Error> {
        Ok(Self { folder: tempfile::tempdir()?, sessions: RefCell::default() })
    }

    /// Runs one to its end.
    fn run(&self, arguments: &[&str]) -> Result<Output, io::Error> {
        let mut command = self.command();
        let running = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        self.sessions.borrow_mut().push(running.id());
        running.wait_with_output()
    }

    /// Starts one of which nothing is read.
    fn start(&self) -> Result<Child, io::Error> {
        let running = self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        self.sessions.borrow_mut().push(running.id());
        Ok(running)
    }

    /// `setsid` becomes the program, whose process id it stays.
    fn command(&self) -> Command {
        let mut command = Command::new("setsid");
        command.arg(built("demo")).arg("--quick");
        command.env("TMPDIR", self.folder.path()).current_dir(repository());
        command
    }

    /// No namespace, process, control group, socket, lock, temporary file or pinned hook of these demos.
    fn assert_nothing_left(&self) -> Outcome {
        let namespaces = namespaces()?;
        if !namespaces.is_empty() {
            return Err(format!("namespaces are left:\n{namespaces}").into());
        }
        let processes: Vec<_> =
            self.sessions.borrow().iter().flat_map(|session| processes_of(*session)).collect();
        if !processes.is_empty() {
            return Err(format!("processes are left: {processes:?}").into());
        }
        let instances = ["demo", "demo-node-b"];
        let files: Vec<_> = instances.iter().flat_map(|name| files_of(name)).collect();
        let groups: Vec<_> = instances.iter().flat_map(|name| groups_of(name)).collect();
        let temporary: Vec<_> = fs::read_dir(self.folder.path())?.flatten().map(|file| file.path()).collect();
        let known = instances.map(|name| Path::new("/run/canopy-owners").join(name));
        let known: Vec<_> = known.into_iter().chain([LOCK.into()]).filter(|path| path.exists()).collect();
        let left = [files, groups, temporary, known].concat();
        if left.is_empty() { Ok(()) } else { Err(format!("files are left: {left:?}").into()) }
    }
}

/// The demo's, a line each.
fn namespaces() -> Result<String, io::Error> {
    let listed = Command::new("ip").args(["netns", "list"]).output()?.stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    Ok(listed.lines().filter(|line| line.contains("canopy-demo")).map(|line| format!("{line}\n")).collect())
}

fn pid(child: &Child) -> Result<Pid, io::Error> {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Whether a process handles a signal: until it has come so far, the signal would just end it.
fn catches(id: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    caught >> (signal.as_raw() - 1) & 1 == 1
}

/// What keeps a second demo from being run.
const LOCK: &str = "/run/canopy-demo.lock";
