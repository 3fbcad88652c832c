//! `canopy control` as an operator sees it: its options and metrics are as docs/control-plane.md has them, what is wrong is said with
//! what to do, and it ends when it is told to.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    os::unix::fs::FileTypeExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use config::{discovery::Site, identity::TrustDomain, model::Mesh};
use node_proxy::{
    control::{
        Status,
        discovery::server::Streams,
        kubernetes::{self, Access, Authority, AuthorityOptions, Believed, Residents, Standing},
    },
    mode::control::page,
    telemetry::server::Page,
};
use rustix::process::{Pid, Signal, kill_process};
use rustls::time_provider::DefaultTimeProvider;

const PAGE: &str = include_str!("../../docs/control-plane.md");

/// Cells of the rows of a section, without their quotes.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading)).expect("a section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').skip(1).map(|cell| cell.trim_matches([' ', '`'])).collect()).collect()
}

#[test]
fn every_option_is_documented_with_its_variable_and_its_default() {
    let help = Command::new(env!("CARGO_BIN_EXE_canopy")).args(["control", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let documented = rows("Options");
    let options: BTreeSet<&str> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--")?.split([' ', '\n']).next())
        .collect();
    let known: BTreeSet<&str> = documented.iter().filter_map(|row| row[0].strip_prefix("--")).collect();
    assert_eq!(options, known);
    for row in documented {
        // A flag has no value behind it.
        let beginning = |end: char| format!("\n      {}{end}", row[0]);
        let found = help.split_once(&beginning(' ')).or_else(|| help.split_once(&beginning('\n')));
        let (_, of) = found.unwrap_or_else(|| panic!("{}", row[0]));
        let of = of.split("\n      --").next().unwrap_or_default();
        assert!(of.contains(&format!("[env: {}=", row[1])), "{row:?}: {of}");
        let default = of.split_once("[default: ").map(|(_, rest)| rest.split(']').next().unwrap_or_default());
        assert_eq!(default.unwrap_or("–"), row[2], "{row:?}");
    }
}

#[test]
fn every_metric_is_documented_with_its_type_and_its_labels() {
    let site = Site { domain: "cluster.local".try_into().unwrap(), cluster: "c".to_owned() };
    let streams = Streams::new(site);
    let status = Arc::<Status>::default();
    let cluster = Arc::new(Standing::new(&kubernetes::cluster()));
    let authority = authority(Arc::clone(&cluster));
    let page = |authority: Option<Arc<Authority>>| {
        let callers = authority.as_ref().map(|authority| authority.callers());
        let (cluster, events) = (Some(Arc::clone(&cluster)), Some(Arc::default()));
        let parts = page::Parts { cluster, events, authority, callers };
        page::ControlPage::new(streams.figures(), Arc::clone(&status), parts)
    };
    let (shown, alone) = (page(Some(authority)), page(None));
    assert!(!alone.is_ready(), "nothing is served yet");
    streams.stock(&Arc::new(Mesh { version: 3, ..Mesh::default() }));
    assert!(alone.is_ready() && !shown.is_ready(), "an authority without a root gives no certificate");
    let shown = shown.metrics();
    let types: Vec<(&str, &str)> =
        shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let samples = shown.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(0));
        let family = name.trim_end_matches("_total").trim_end_matches("_info");
        let kind = types.iter().find(|(of, _)| *of == family).map_or("none", |(_, kind)| kind);
        let label = rest.strip_prefix('{').and_then(|rest| rest.split('=').next()).unwrap_or("–");
        format!("{name} | {kind} | {label}")
    });
    let samples: BTreeSet<String> = samples.collect();
    let documented: BTreeSet<String> = rows("Metrics").iter().map(|row| row[..3].join(" | ")).collect();
    assert_eq!(samples, documented, "{shown}");
    assert!(shown.contains("canopy_configuration_version 3\n"), "{shown}");
    assert!(shown.contains("canopy_control_resources{type=\"Address\"} 0\n"), "{shown}");
}

/// An authority that has no root yet.
fn authority(standing: Arc<Standing>) -> Arc<Authority> {
    let directory = tempfile::tempdir().expect("a directory");
    let kubeconfig = directory.path().join("config");
    let text = "{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], \
                users: [{name: c, user: {}}], contexts: [{name: c, context: {cluster: c, user: c}}]}";
    fs::write(&kubeconfig, text).expect("it can be written");
    let options = AuthorityOptions {
        trust_domain: TrustDomain::default(),
        believed: Believed { audience: "istio-ca".to_owned(), accounts: Vec::new() },
        lifetime: Duration::from_secs(3600),
        cluster_domain: "cluster.local".to_owned(),
        publishes: true,
        webhook: false,
        clock: Arc::new(DefaultTimeProvider),
    };
    let access = Access { kubeconfig: vec![kubeconfig], context: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    runtime
        .block_on(Authority::open(options, &access, Arc::<Residents>::default(), standing))
        .expect("an address to ask")
}

fn canopy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_canopy"))
        .arg("control")
        .args(arguments)
        .output()
        .expect("the binary runs")
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().to_str().unwrap();
    let free = ["--config", config, "--metrics-addr", "127.0.0.1:0"];
    for (arguments, code, words) in [
        (&["--listen", "0.0.0.0:0"][..], 1, "give --certificate and --key"),
        (&["--listen", "somewhere"], 2, "one of: unix:PATH, IP:PORT"),
        (&["--certificate", "x"], 2, "--key"),
        (&["--client-roots", "x"], 2, "--certificate"),
        (
            &["--listen", "127.0.0.1:0", "--certificate", "/nowhere", "--key", "/nowhere"],
            1,
            "/nowhere cannot be read (--certificate)",
        ),
        (&["--cluster", "a/b"], 2, "a cluster's name is"),
        (&["--trust-domain", "no domain"], 1, "no domain"),
    ] {
        let output = canopy(&[&free, arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    let output = canopy(&["--config", "/nowhere/at/all", "--metrics-addr", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all"));
}

/// A control plane that is killed if the test fails.
struct Plane(Child);

impl Drop for Plane {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}");
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[test]
fn it_says_what_it_serves_to_whom_and_what_is_wrong_and_ends_on_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("conf");
    fs::create_dir(&config).unwrap();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    fs::write(
        config.join("a.yaml"),
        format!("{namespace}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: UPPER}}\n"),
    )
    .unwrap();
    let socket = directory.path().join("control.sock");
    let mut plane = Plane(
        Command::new(env!("CARGO_BIN_EXE_canopy"))
            .args(["control", "--metrics-addr", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--listen")
            .arg(format!("unix:{},127.0.0.1:0", socket.display()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut log = plane.0.stderr.take().unwrap();
    wait_for("the socket is made", || is_socket(&socket));
    // By then the directory is read.
    thread::sleep(Duration::from_secs(1));
    let process = Pid::from_raw(i32::try_from(plane.0.id()).unwrap()).unwrap();
    kill_process(process, Signal::HUP).unwrap();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(plane.0.try_wait().unwrap(), None, "SIGHUP ends nothing");
    kill_process(process, Signal::TERM).unwrap();
    assert!(plane.0.wait().unwrap().success());
    assert!(!socket.exists());
    let mut said = String::new();
    log.read_to_string(&mut said).unwrap();
    for words in [
        "root and this user",
        "whoever is on this machine",
        "UPPER",
        "configuration served",
        "nodes go on with what they have",
    ] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
}
