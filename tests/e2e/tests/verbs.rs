//! Verbs that need no daemon, as a shell runs them: what they print, their exit codes, and a reader that leaves early.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use e2e::built;
use testkit::Outcome;

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

fn canopy(arguments: &[&str]) -> Command {
    let mut command = Command::new(built("canopy"));
    command.args(arguments);
    command
}

#[test]
fn every_shell_that_is_offered_gets_a_script_that_knows_the_verbs() -> Outcome {
    let help = String::from_utf8(canopy(&["completions", "--help"]).output()?.stdout)?;
    for shell in SHELLS {
        assert!(help.contains(shell), "{shell}: {help}");
        let output = canopy(&["completions", shell]).output()?;
        let script = String::from_utf8(output.stdout)?;
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        for word in ["canopy", "validate", "certificate", "redirect"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    Ok(())
}

#[test]
fn the_script_for_bash_is_one_that_bash_can_read() -> Outcome {
    let script = canopy(&["completions", "bash"]).output()?.stdout;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    bash.stdin.take().ok_or("a pipe")?.write_all(&script)?;
    let output = bash.wait_with_output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() -> Outcome {
    let manifests = tempfile::tempdir()?;
    let directory = manifests.path().to_string_lossy();
    for arguments in [["completions", "bash"], ["validate", &directory]] {
        let (reader, writer) = io::pipe()?;
        drop(reader);
        let output = canopy(&arguments).stdout(writer).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("panicked"), "{arguments:?}: {said}");
    }
    Ok(())
}

#[test]
fn validating_an_empty_directory_warns_and_fails_only_where_warnings_do() -> Outcome {
    let manifests = tempfile::tempdir()?;
    let directory = manifests.path().to_string_lossy();
    fs::write(manifests.path().join("notes.txt"), "not a manifest")?;
    for (arguments, code) in [(&["validate", &directory][..], 0), (&["validate", "--strict", &directory], 1)]
    {
        let output = canopy(arguments).output()?;
        let said = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.starts_with("warning: no manifest was found"), "{said}");
    }
    Ok(())
}

#[test]
fn files_that_several_nodes_share_are_validated_as_the_daemon_of_one_of_them_would() -> Outcome {
    let pod = |name: &str, last: u8| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, annotations: {{canopy.mesh/netns: /run/netns/web}}}}\n\
             spec: {{nodeName: node-{name}, containers: [{{name: app}}]}}\nstatus: {{podIPs: [{{ip: 10.77.0.{last}}}]}}\n"
        )
    };
    let manifests = tempfile::tempdir()?;
    let directory = manifests.path().to_string_lossy();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    fs::write(manifests.path().join("pods.yaml"), format!("{namespace}{}{}", pod("a", 1), pod("b", 2)))?;
    for (node, code) in [(&["--node", "node-a"][..], 0), (&["--node", "node-b"], 0), (&[], 1)] {
        let output = canopy(&["validate", &directory]).args(node).env_remove("CANOPY_NODE").output()?;
        let said = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(code), "{node:?}: {said}");
        assert_eq!(said.contains("is the network namespace of Pod"), code == 1, "{node:?}: {said}");
    }
    let output = canopy(&["validate", &directory, "--node", "no node"]).output()?;
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr)?.contains("--node: "));
    Ok(())
}

/// `canopy run` falls back on these, so each has to be there, and not only one of the name of the package.
#[test]
fn check_misses_each_tool_that_steering_by_iptables_runs() -> Outcome {
    let tools = ["iptables-restore", "ip6tables-restore", "ip"];
    for missing in [None, Some(tools[0]), Some(tools[1]), Some(tools[2])] {
        let path = tempfile::tempdir()?;
        for tool in tools.into_iter().chain(["iptables"]).filter(|tool| Some(*tool) != missing) {
            symlink("/bin/true", path.path().join(tool))?;
        }
        let output = canopy(&["check", "--json"]).env("PATH", path.path()).output()?;
        let looks: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let looks = looks.as_array().ok_or("no list")?;
        let look = looks.iter().find(|look| look["name"] == "iptables").ok_or("nothing about iptables")?;
        let detail = look["detail"].as_str().unwrap_or_default();
        match missing {
            None => assert_eq!(look["state"], "fine", "{look}"),
            Some(tool) => {
                assert_ne!(look["state"], "fine", "{look}");
                assert!(detail.starts_with(&format!("{tool} is not installed")), "{look}");
            }
        }
    }
    Ok(())
}
