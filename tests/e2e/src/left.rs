//! What a daemon may leave behind: files of its own, control groups, and rules and routes in pods; and what a program may that starts
//! others.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::{KitError, Pod};

/// Files in the places where a daemon keeps some, that name the instance.
#[must_use]
pub fn files_of(instance: &str) -> Vec<PathBuf> {
    let places = ["/sys/fs/bpf", "/run/canopy"].map(Path::new);
    let mut left: Vec<PathBuf> = places.into_iter().flat_map(walk).collect();
    left.retain(|path| path.to_string_lossy().contains(instance));
    left
}

/// Control groups of an instance's daemons, wherever this machine has them.
#[must_use]
pub fn groups_of(instance: &str) -> Vec<PathBuf> {
    let (mut groups, named) = (walk(Path::new("/sys/fs/cgroup")), format!("canopy.{instance}."));
    groups.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&named)));
    groups
}

/// What runs of a session: of all that its leader has started, and what that has.
#[must_use]
pub fn processes_of(session: u32) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.flat_map(|entry| std::fs::read_to_string(entry.path().join("stat")));
    let is_of_it = |stat: &String| {
        // `17 (nginx) S PARENT GROUP SESSION …`; a name may have anything in it.
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
        let mut fields = fields.split(' ');
        fields.next().is_some_and(|state| state != "Z") && fields.nth(2) == Some(&session.to_string())
    };
    stats.filter(is_of_it).collect()
}

/// A pod's rules and routing, of both families, without counters and comments.
///
/// # Errors
/// The pod's namespace cannot be entered, or a tool is not there.
pub fn rules_of(pod: &Pod) -> Result<BTreeSet<String>, KitError> {
    let mut lines = BTreeSet::new();
    for command in [
        &["iptables-save"][..],
        &["ip6tables-save"],
        &["ip", "rule"],
        &["ip", "-6", "rule"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
    ] {
        let output = pod.run(|| Command::new(command[0]).args(&command[1..]).output())?;
        let output = output.map_err(|source| KitError::Start { what: command.join(" "), source })?;
        let text = String::from_utf8_lossy(&output.stdout);
        // A table without rules is as good as none: reading creates it. Link-local addresses come a little late.
        let counts = |line: &&str| {
            let of_link = line.contains("fe80::") || line.contains("ff00::");
            !of_link && (line.starts_with("-A") || line.contains("lookup") || line.contains("dev"))
        };
        lines.extend(text.lines().filter(counts).map(str::to_owned));
    }
    Ok(lines)
}

/// Everything below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { [walk(&path), vec![path]].concat() } else { vec![path] })
        .collect()
}
