//! `canopy cni` as a container runtime and an operator see it: a process with an environment and standard input, under the plugin's name,
//! and options that are as docs/operations.md has them.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/operations.md");

/// Runs the plugin as a runtime does: by its file's name, with nothing on its command line.
fn plugin(directory: &Path, command: &str, input: &str) -> Output {
    let file = directory.join("canopy-cni");
    if !file.exists() {
        symlink(env!("CARGO_BIN_EXE_canopy"), &file).expect("a link to the program");
    }
    let mut child = Command::new(file)
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "c0ffee")
        .env("CNI_NETNS", "/var/run/netns/cni-1")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=u-1")
        .env("CNI_PATH", "/opt/cni/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("its end")
}

fn network(directory: &Path) -> Value {
    let previous = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}], "dns": {}});
    json!({
        "cniVersion": "1.0.0", "name": "podnet", "type": "canopy-cni", "gate": directory.join("gate.sock"),
        "timeoutSeconds": 1, "prevResult": previous
    })
}

/// A gate that gives one answer to one request, which it returns.
fn gate(directory: &Path, answer: &'static str) -> thread::JoinHandle<Value> {
    let listener = UnixListener::bind(directory.join("gate.sock")).expect("a socket");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the plugin");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("a request");
        stream.write_all(answer.as_bytes()).expect("it is taken");
        serde_json::from_str(&line).expect("JSON")
    })
}

fn json_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_pod_starts_when_the_gate_says_so_with_the_result_that_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let asked = gate(directory.path(), "{\"version\":1,\"verdict\":\"enrolled\"}\n");
    let network = network(directory.path());
    let output = plugin(directory.path(), "ADD", &network.to_string());
    assert!(output.status.success(), "{output:?}");
    assert_eq!((json_of(&output), output.stderr.as_slice()), (network["prevResult"].clone(), &b""[..]));
    let asked = asked.join().unwrap();
    for (field, expected) in [
        ("version", json!(1)),
        ("ask", json!("add")),
        ("namespace", json!("shop")),
        ("name", json!("cart")),
        ("uid", json!("u-1")),
        ("container", json!("c0ffee")),
        ("netns", json!("/var/run/netns/cni-1")),
        ("addresses", json!(["10.1.0.5"])),
    ] {
        assert_eq!(asked[field], expected, "{field}");
    }
}

#[test]
fn a_pod_whose_start_fails_is_answered_with_the_specifications_error_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let network = network(directory.path());
    let output = plugin(directory.path(), "ADD", &network.to_string());
    assert_eq!(output.status.code(), Some(1));
    let error = json_of(&output);
    assert_eq!((&error["code"], &error["cniVersion"]), (&json!(11), &json!("1.0.0")));
    assert!(error["msg"].as_str().unwrap().contains("no daemon answers"), "{error}");
    let output = plugin(directory.path(), "DEL", &network.to_string());
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "the end of a pod is not held up: {output:?}"
    );
    let output = plugin(directory.path(), "ADD", "{");
    assert_eq!(json_of(&output)["code"], 6);
    let output = plugin(directory.path(), "UPDATE", "{}");
    assert_eq!(json_of(&output)["code"], 4);
}

#[test]
fn versions_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let told = json_of(&plugin(directory.path(), "VERSION", "{\"cniVersion\":\"1.0.0\"}"));
    assert_eq!(told["cniVersion"], "1.0.0");
    let versions = told["supportedVersions"].as_array().unwrap();
    assert!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"].iter().all(|version| versions.contains(&json!(version))));
}

#[test]
fn a_person_who_runs_it_is_told_what_it_is() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_canopy")).arg("cni").env_remove("CNI_COMMAND").output().unwrap();
    assert!(json_of(&output)["msg"].as_str().unwrap().contains("canopy cni --help"), "{output:?}");
}

fn canopy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_canopy"))
        .env_clear()
        .arg("cni")
        .args(arguments)
        .output()
        .expect("the program")
}

#[test]
fn what_is_installed_runs_and_what_is_uninstalled_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["net.d", "bin", "account"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("account/token"), "abc").unwrap();
    fs::write(at("account/ca.crt"), "roots").unwrap();
    let list = r#"{"cniVersion":"1.0.0","name":"podnet","plugins":[{"type":"bridge"}]}"#;
    fs::write(at("net.d/10-podnet.conflist"), list).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (conf, bin, account) = (text(at("net.d")), text(at("bin")), text(at("account")));
    let places = ["--cni-conf-dir", &conf, "--cni-bin-dir", &bin];
    let install =
        [&["install"][..], &places, &["--account", &account, "--gate-socket", "/run/x.sock"]].concat();
    let output = canopy(&install);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--api-server"), "{output:?}");
    let output = canopy(&[&install[..], &["--api-server", "https://10.96.0.1"]].concat());
    assert!(output.status.success(), "{output:?}");
    let chained: Value = serde_json::from_slice(&fs::read(at("net.d/10-podnet.conflist")).unwrap()).unwrap();
    assert_eq!(chained["plugins"][1]["gate"], "/run/x.sock");
    let told = Command::new(at("bin/canopy-cni"))
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(json_of(&told)["cniVersion"], "1.1.0");
    let output = canopy(&[&["uninstall"][..], &places].concat());
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("took canopy-cni out")
    );
    assert_eq!(fs::read_dir(at("bin")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(at("net.d")).unwrap().count(), 1);
}

#[test]
fn while_a_daemon_runs_nothing_of_it_is_removed_and_it_is_said_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["net.d", "bin", "state"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("bin/canopy-cni"), "").unwrap();
    fs::write(at("state/kept"), "x").unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (conf, bin, state) = (text(at("net.d")), text(at("bin")), text(at("state")));
    let _daemon = UnixListener::bind(at("state/gate.sock")).unwrap();
    let arguments = ["uninstall", "--cni-conf-dir", &conf, "--cni-bin-dir", &bin, "--remove-state", &state];
    let output = canopy(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{output:?}");
    for word in ["a daemon still runs", "state/gate.sock is answered", "delete daemonset canopy-node"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(at("state/kept").exists() && at("bin/canopy-cni").exists(), "nothing was changed");
}

#[test]
fn while_it_watches_it_mends_and_at_its_end_it_leaves_the_plugin() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("net.d")).unwrap();
    fs::create_dir(at("bin")).unwrap();
    let list = r#"{"cniVersion":"1.0.0","name":"podnet","plugins":[{"type":"bridge"}]}"#;
    let path = at("net.d/10-podnet.conflist");
    fs::write(&path, list).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_canopy"))
        .args(["cni", "install", "--watch", "--api-server", "off", "--cni-conf-dir"])
        .arg(at("net.d"))
        .arg("--cni-bin-dir")
        .arg(at("bin"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let chained = || {
        let end = SystemTime::now() + Duration::from_secs(9);
        while !fs::read_to_string(&path).is_ok_and(|text| text.contains("canopy-cni")) {
            assert!(SystemTime::now() < end, "it is not chained");
            thread::sleep(Duration::from_millis(10));
        }
    };
    chained();
    fs::write(&path, list).unwrap();
    chained();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    chained();
}

/// Cells of the rows of the table below a heading of the plugin's section, without their quotes.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n### ").find(|section| section.starts_with(heading)).expect("a section");
    let rows =
        section.split("\n## ").next().unwrap_or_default().lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').skip(1).map(|cell| cell.trim_matches([' ', '`'])).collect()).collect()
}

#[test]
fn every_option_is_documented_with_its_variable_and_its_default() {
    let help = |verb| {
        let help = Command::new(env!("CARGO_BIN_EXE_canopy")).args(["cni", verb, "--help"]).output().unwrap();
        String::from_utf8(help.stdout).unwrap()
    };
    let (install, uninstall) = (help("install"), help("uninstall"));
    let options = |help: &str| -> BTreeSet<String> {
        let lines = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
        lines.filter_map(|rest| Some(rest.split([' ', '\n']).next()?.to_owned())).collect()
    };
    let documented = rows("Options of `canopy cni install`");
    let known: BTreeSet<String> =
        documented.iter().map(|row| row[0].trim_start_matches("--").to_owned()).collect();
    assert_eq!(options(&install).union(&options(&uninstall)).cloned().collect::<BTreeSet<_>>(), known);
    for row in documented {
        let of = |help: &str| {
            let (_, of) = help.split_once(&format!("\n      {}", row[0]))?;
            Some(of.split("\n      --").next().unwrap_or_default().to_owned())
        };
        let of = of(&install).or_else(|| of(&uninstall)).unwrap_or_else(|| panic!("{row:?}"));
        let of = of.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_told = match row[1] {
            "–" => !of.contains("[env: "),
            variable => of.contains(&format!("[env: {variable}=")),
        };
        assert!(is_told, "{row:?}: {of}");
        // Others are told in words.
        let default =
            of.rsplit_once("[default: ").map(|(_, rest)| rest.split(']').next().unwrap_or_default());
        assert!(row[2] == "–" || default == Some(row[2]), "{row:?}: {of}");
    }
}
