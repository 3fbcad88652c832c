//! The README's "Run it" block, run as it stands: each command in its order, the daemon and the trace until they are ended.
//!
//! Nothing of the block is changed but where it runs: in a node's network namespace, with the built binary first in PATH.

use std::{fs, process::Command, time::Duration};

use e2e::{built, eventually, repository};
use testkit::{Node, Outcome, Process};

#[test]
fn the_commands_of_the_readme_do_what_stands_beside_them() -> Outcome {
    let node = Node::new()?;
    let mut running: Vec<(String, Process)> = Vec::new();
    let commands = commands(&fs::read_to_string(repository().join("README.md"))?);
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let mut process = Process::start(node.netns(), shell(&command))?;
        if command.starts_with("canopy run") {
            eventually("the daemon is ready", || process.has_ended() || process.output().contains("ready"))?;
            assert!(!process.has_ended(), "{command}: {}", process.output());
            running.push((command, process));
        } else if command.starts_with("canopy trace") {
            // It shows what happens from now on; here nothing does.
            std::thread::sleep(Duration::from_millis(500));
            assert!(!process.has_ended(), "{command}: {}", process.output());
            running.push((command, process));
        } else {
            let status = process.wait(PATIENCE).ok_or(format!("{command} does not end"))?;
            assert!(status.success(), "{command}:\n{}", process.output());
            assert!(!process.output().trim().is_empty(), "{command} says nothing");
        }
    }
    for (command, mut process) in running.into_iter().rev() {
        // Not SIGINT: a shell that runs the tests in its background has it ignored.
        process.signal(rustix::process::Signal::TERM);
        eventually(&format!("{command} ends"), || process.has_ended())?;
    }
    Ok(())
}

/// What a user types, in the repository's folder.
fn shell(command: &str) -> Command {
    let folder = built("canopy").parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec {command}")).current_dir(repository());
    shell.env("PATH", format!("{folder}:{path}"));
    shell
}

/// The lines of the `sh` blocks that call the binary, without what is said beside them.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter(|line| line.starts_with("canopy "));
    lines.map(|line| line.split('#').next().unwrap_or_default().trim().to_owned()).collect()
}

const PATIENCE: Duration = Duration::from_secs(20);
