//! `make demo` tells the truth, ends by itself, and leaves nothing behind: when it ends, when it is
//! interrupted, and, once it has run again, when it was killed.

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use e2e::{built, eventually, repository};
use rustix::process::{Pid, Signal, kill_process};
use testkit::Outcome;

/// The demo's namespaces have fixed names, so there is one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn demo_holds_what_it_claims_and_leaves_nothing() -> Outcome {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = demo().output()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}\n{failed}");
    for step in 1..=9 {
        assert!(told.contains(&format!("\n{step}. ")), "step {step} is missing:\n{told}");
    }
    assert_tells_how_to_explore_on(&told)?;
    assert_nothing_left()
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
    for after in [100, 400, 900, 2_500, 5_000] {
        let mut running = quiet().spawn()?;
        eventually("it heeds the signal", || catches(running.id(), Signal::INT))?;
        thread::sleep(Duration::from_millis(after));
        kill_process(pid(&running)?, Signal::INT)?;
        let status = running.wait()?;
        assert_eq!(status.code(), Some(130), "interrupted after {after} ms");
        assert_nothing_left()?;
    }
    Ok(())
}

#[test]
fn a_demo_whose_time_is_over_fails_and_leaves_nothing() -> Outcome {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = demo().args(["--limit", "2"]).output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not over within its time"));
    assert_nothing_left()
}

#[test]
fn what_a_killed_demo_left_is_removed_by_the_next() -> Outcome {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut killed = quiet().spawn()?;
    eventually("it has begun", || assert_nothing_left().is_err())?;
    thread::sleep(Duration::from_millis(2_500));
    kill_process(pid(&killed)?, Signal::KILL)?;
    killed.wait()?;
    assert!(assert_nothing_left().is_err(), "there was something to remove");
    let output = demo().output()?;
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{failed}", String::from_utf8_lossy(&output.stdout));
    assert_nothing_left()
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
    let output = demo().arg("--config").arg(other.path()).output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("split 90:10"));
    assert_nothing_left()
}

fn demo() -> Command {
    let mut command = Command::new(built("demo"));
    command.arg("--quick").current_dir(repository());
    command
}

fn quiet() -> Command {
    let mut command = demo();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn pid(child: &Child) -> Result<Pid, std::io::Error> {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or_default())
        .ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// Whether a process handles a signal: until it has come so far, the signal would just end it.
fn catches(id: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    caught >> (signal.as_raw() - 1) & 1 == 1
}

/// No namespace, process, lock or pinned hook of the demo.
fn assert_nothing_left() -> Outcome {
    let namespaces = String::from_utf8(Command::new("ip").args(["netns", "list"]).output()?.stdout)?;
    if namespaces.contains("canopy-demo") {
        return Err(format!("namespaces are left:\n{namespaces}").into());
    }
    let layouts = fs::read_dir("/sys/fs/bpf/canopy").into_iter().flatten().flatten();
    for layout in layouts {
        let pins: Vec<_> =
            ["demo", "demo-node-b"].iter().flat_map(|name| walk(&layout.path().join(name))).collect();
        if !pins.is_empty() {
            return Err(format!("pins are left: {pins:?}").into());
        }
    }
    let built = [built("demo"), built("canopy")].map(|path| path.canonicalize());
    for entry in fs::read_dir("/proc")?.flatten() {
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let arguments = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let ours = built.iter().flatten().any(|path| *path == program);
        if ours && (arguments.contains("serve-grpc") || arguments.contains("\0demo")) {
            return Err(format!("a process is left: {arguments}").into());
        }
    }
    Ok(())
}

/// The files below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
