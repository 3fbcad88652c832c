//! The daemon begins, ends and dies without losing what it could have kept or leaving what it should have taken
//! along; and where it cannot begin it says why.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

use e2e::{
    HTTP, Listener, Origin, Stage, Traffic, Vip, built, byte, dial, eventually, files_of, is_reset, port,
};
use rustix::process::Signal;
use testkit::{Daemon, Node, Options, Outcome, Pod, Process, Server, http};
use tokio::time::Instant;

const RAW: testkit::manifests::Port = port("tcp-raw", 7000);

/// A caller and a server that answers when it is told to.
struct Pair {
    origin: Origin,
    client: Pod,
    web: Pod,
    vip: Vip,
    stage: Stage,
}

impl Pair {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP, RAW])?);
        let vip = stage.service(("shop", "web"), 10, &[HTTP, RAW], &[&web])?;
        let origin = Origin::start(&web, 80)?;
        Ok(Self { origin, client, web, vip, stage })
    }

    fn daemon(&self, instance: &str, arguments: &[&str]) -> Result<Daemon, testkit::KitError> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let options = Options { arguments, instance: Some(instance.to_owned()), ..Options::default() };
        Daemon::start_with(&self.stage.node, self.stage.manifests.path(), &options)
    }

    fn is_served(&self) -> bool {
        http::get(&self.client, self.vip.at(80), "web", "/").is_ok_and(|answer| answer.status == 200)
    }
}

#[test]
fn sigterm_lets_a_request_in_flight_finish_and_leaves_nothing() -> Outcome {
    let pair = Pair::new()?;
    let instance = name("drain");
    let mut daemon = pair.daemon(&instance, &[])?;
    assert!(pair.is_served());
    assert!(!files_of(&instance).is_empty(), "what is looked for afterwards can be found now");
    let (client, vip) = (&pair.client, pair.vip);
    let (answer, ended) = thread::scope(|scope| {
        let slow = scope.spawn(move || http::get(client, vip.at(80), "web", "/slow?ms=4000"));
        eventually("the request is in flight", || pair.origin.seen().len() == 2)?;
        daemon.process().signal(Signal::TERM);
        let ended = daemon.process().wait(PATIENCE);
        let answer = slow.join().map_err(|_| "the client panicked")?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((answer, ended))
    })?;
    assert_eq!(answer?.status, 200);
    let output = daemon.output();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{output}");
    assert!(output.contains("drained"), "{output}");
    let socket = daemon.admin_socket();
    assert!(!socket.exists());
    assert_nothing_left(&instance, &[&pair.client, &pair.web])?;
    assert!(!pair.is_served(), "nobody steers the Service's address any more");
    let direct = http::get(&pair.client, pair.web.at(80), "web", "/")?;
    assert_eq!(direct.status, 200, "and the pods speak to each other as before");
    Ok(())
}

#[test]
fn what_does_not_end_by_itself_is_ended_when_the_drain_is_over() -> Outcome {
    let pair = Pair::new()?;
    let _echo = Listener::echo(&pair.web, pair.web.at(7000))?;
    let instance = name("stay");
    let mut daemon = pair.daemon(&instance, &["--drain", "4"])?;
    let mut stays = dial(&pair.client, pair.vip.at(7000))?;
    stays.write_all(b"x")?;
    stays.read_exact(&mut [0])?;
    let begun = Instant::now();
    daemon.process().signal(Signal::TERM);
    // For as long as it may, it works on.
    stays.write_all(b"x")?;
    stays.read_exact(&mut [0])?;
    let end = byte(&stays);
    assert!(is_reset(&end), "what is cut short must not look complete: {end:?}");
    let ended = daemon.process().wait(PATIENCE);
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", daemon.output());
    assert!(begun.elapsed() >= Duration::from_millis(3_900), "{:?}", begun.elapsed());
    // It was cut, and not by either end.
    let line = daemon.wait_logged(|line| line["direction"] == "outbound" && line["protocol"] == "tcp")?;
    assert_eq!(line["reason"], "draining", "{line}");
    assert_nothing_left(&instance, &[&pair.client, &pair.web])
}

#[test]
fn a_second_signal_ends_it_at_once_and_leaves_nothing() -> Outcome {
    let pair = Pair::new()?;
    let _echo = Listener::echo(&pair.web, pair.web.at(7000))?;
    for pause in [0, 300] {
        let instance = name(&format!("twice{pause}"));
        let mut daemon = pair.daemon(&instance, &["--drain", "60"])?;
        // It would be waited for.
        let held = dial(&pair.client, pair.vip.at(7000))?;
        daemon.process().signal(Signal::TERM);
        thread::sleep(Duration::from_millis(pause));
        daemon.process().signal(Signal::INT);
        let ended = daemon.process().wait(PATIENCE);
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", daemon.output());
        assert_nothing_left(&instance, &[&pair.client, &pair.web])?;
        drop(held);
    }
    Ok(())
}

#[test]
fn a_daemon_without_work_ends_at_once() -> Outcome {
    let pair = Pair::new()?;
    // What there was to wait for would be waited for far longer than this test waits.
    let mut daemon = pair.daemon(&name("idle"), &["--drain", "600"])?;
    assert!(pair.is_served());
    daemon.process().signal(Signal::TERM);
    let ended = daemon.process().wait(PATIENCE);
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", daemon.output());
    assert!(daemon.output().contains("drained"), "{}", daemon.output());
    Ok(())
}

#[test]
fn killed_and_started_again_it_works_and_leaves_nothing_in_the_end() -> Outcome {
    let pair = Pair::new()?;
    let instance = name("killed");
    for _ in 0..2 {
        let mut daemon = pair.daemon(&instance, &[])?;
        assert!(pair.is_served(), "{}", daemon.output());
        daemon.process().signal(Signal::KILL);
        daemon.process().wait(PATIENCE).ok_or("a killed process ends")?;
    }
    // What is gone in the meantime is not looked for any more.
    let gone = pair.stage.pod("bank", "gone", &[])?;
    let mut daemon = pair.daemon(&instance, &[])?;
    daemon.process().signal(Signal::KILL);
    daemon.process().wait(PATIENCE).ok_or("a killed process ends")?;
    pair.stage.manifests.remove("bank-gone-pod.yaml")?;
    let mut daemon = pair.daemon(&instance, &[])?;
    assert!(pair.is_served(), "{}", daemon.output());
    daemon.process().signal(Signal::TERM);
    let ended = daemon.process().wait(PATIENCE);
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", daemon.output());
    assert_nothing_left(&instance, &[&pair.client, &pair.web, &gone])
}

#[test]
fn two_daemons_with_pods_of_their_own_coexist_on_a_node() -> Outcome {
    let (one, other) = (Stage::new()?, testkit::manifests::Manifests::new()?);
    let (client, web) = (one.pod("shop", "client", &[])?, one.pod("shop", "web", &[HTTP])?);
    let vip = one.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let teller = one.node.pod("bank", "teller")?;
    other.namespace("bank")?;
    other.pod(&teller, &[])?;
    // The same Service is known to both.
    other.write("web.yaml", &one.manifests.read("shop-web-service.yaml")?)?;
    other.namespace("shop")?;
    let _nginx = Server::nginx(&web, 80)?;
    let first = one.daemon()?;
    let second = Second::start(&one.node, other.path())?;
    let (near, far) =
        (Traffic::start(&client, vip.at(80), "web")?, Traffic::start(&teller, vip.at(80), "web")?);
    for traffic in [&near, &far] {
        let seen = traffic.next(50)?;
        assert_eq!(seen.failures, 0, "{seen:?}");
    }
    eventually("the second tells of its own", || second.log().contains("\"workload\":\"bank/teller\""))
        .map_err(|error| format!("{error}: {}", second.process.output()))?;
    let of = |workload: &str| first.access_log().iter().filter(|line| line["workload"] == workload).count();
    eventually("the first tells of its own", || of("shop/client") > 0)?;
    assert_eq!(of("bank/teller"), 0, "{:?}", first.access_log());
    drop((far, second));
    let seen = near.next(50)?;
    assert_eq!(seen.failures, 0, "the end of one is nothing to the other: {seen:?}");
    Ok(())
}

#[test]
fn a_second_daemon_of_the_same_name_is_refused_and_the_first_goes_on() -> Outcome {
    let pair = Pair::new()?;
    let instance = name("twice");
    let daemon = pair.daemon(&instance, &[])?;
    for redirect in ["auto", "ebpf", "iptables"] {
        let refused = run(
            &pair.stage.node,
            &["--instance", &instance, "--redirect", redirect],
            pair.stage.manifests.path(),
        )?;
        assert_refused(&refused, &["another", &instance]);
    }
    let socket = daemon.admin_socket().display().to_string();
    let refused = run(
        &pair.stage.node,
        &["--instance", &name("x"), "--admin-socket", &socket],
        pair.stage.manifests.path(),
    )?;
    assert_refused(&refused, &["already running", &socket, "--admin-socket"]);
    assert!(daemon.canopy(&["tree"])?.status.success(), "the first one's socket is still there");
    assert!(pair.is_served());
    Ok(())
}

#[test]
fn a_port_in_use_a_missing_directory_and_a_bad_argument_are_named() -> Outcome {
    let stage = Stage::new()?;
    let _taken = stage.node.netns().run(|| TcpListener::bind("127.0.0.1:15020"))??;
    let instance = name("bad");
    let taken = ["--instance", &instance, "--metrics-addr", "127.0.0.1:15020"];
    let refused = run(&stage.node, &taken, stage.manifests.path())?;
    assert_refused(&refused, &["127.0.0.1:15020", "--metrics-addr", "in use"]);
    let missing = Path::new("/nonexistent/canopy");
    let refused = run(&stage.node, &["--instance", &instance], missing)?;
    assert_refused(&refused, &["/nonexistent/canopy", "directory", "No such file"]);
    let refused = run(&stage.node, &["--instance", "Not Good"], stage.manifests.path())?;
    assert_refused(&refused, &["Not Good", "a-z"]);
    let refused = run(
        &stage.node,
        &["--instance", &instance, "--access-log", "/nonexistent/x"],
        stage.manifests.path(),
    )?;
    assert_refused(&refused, &["/nonexistent/x"]);
    assert!(files_of(&instance).is_empty(), "who did not begin leaves nothing: {:?}", files_of(&instance));
    Ok(())
}

#[test]
fn without_root_it_says_what_it_needs() -> Outcome {
    let stage = Stage::new()?;
    // Where nobody may look: the build's folder need not be.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let program = folder.path().join("canopy");
    // By a program: a file that this process had open for writing could not be run while another thread starts one.
    assert!(Command::new("cp").arg(built("canopy")).arg(&program).status()?.success());
    let config = folder.path().join("config");
    fs::create_dir(&config)?;
    for redirect in ["auto", "ebpf", "iptables"] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        command.arg("run").arg("--config").arg(&config).args(["--redirect", redirect, "--instance"]);
        command.arg(name("nobody"));
        let refused = stage.node.netns().run(|| command.output())??;
        assert_refused(&refused, &["run as root"]);
    }
    Ok(())
}

/// A daemon beside the testkit's own on the same node.
struct Second {
    process: Process,
    folder: tempfile::TempDir,
}

impl Second {
    fn start(node: &Node, config: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let folder = tempfile::tempdir()?;
        let mut command = canopy(config);
        command.args(["--metrics-addr", SECOND, "--instance", &name("second"), "--admin-socket"]);
        command.arg(folder.path().join("admin.sock"));
        command.arg("--access-log").arg(folder.path().join("access.log"));
        command.arg("--ca-dir").arg(folder.path().join("ca")).args(["--on-stop", "open"]);
        let mut process = Process::start(node.netns(), command)?.stopped_by(Signal::TERM);
        let at = SECOND.parse()?;
        process.wait_until("readiness", PATIENCE, || {
            http::get_inside(node.netns(), at, "x", "/readyz").is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(Self { process, folder })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }
}

fn canopy(config: &Path) -> Command {
    let mut command = Command::new(built("canopy"));
    command.arg("run").arg("--config").arg(config);
    command
}

/// Runs a daemon that is expected to end by itself.
fn run(
    node: &Node,
    arguments: &[&str],
    config: &Path,
) -> Result<Output, Box<dyn std::error::Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    let mut command = canopy(config);
    command.arg("--ca-dir").arg(folder.path().join("ca"));
    if !arguments.contains(&"--admin-socket") {
        command.arg("--admin-socket").arg(folder.path().join("admin.sock"));
    }
    if !arguments.contains(&"--metrics-addr") {
        command.args(["--metrics-addr", "127.0.0.1:0"]);
    }
    command.args(arguments);
    // One that starts after all is ended by timeout(1), whose exit code is then 124.
    let mut bounded = Command::new("timeout");
    bounded.arg("60").arg(command.get_program()).args(command.get_args());
    Ok(node.netns().run(|| bounded.output())??)
}

/// Ended with exit code 1, one line that begins with the program's name and has all of these in it, and no panic.
fn assert_refused(output: &Output, says: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = said.lines().find(|line| line.starts_with("canopy: ")).unwrap_or_default();
    for part in says {
        assert!(line.contains(part), "{part:?} is not in what it says: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Nothing of an instance on the machine, and nothing in the pods that was not theirs.
fn assert_nothing_left(instance: &str, pods: &[&Pod]) -> Outcome {
    assert!(files_of(instance).is_empty(), "{:?}", files_of(instance));
    for pod in pods {
        let rules = pod.run(|| Command::new("iptables-save").output())??;
        assert!(!String::from_utf8_lossy(&rules.stdout).to_lowercase().contains("canopy"));
        let listeners = pod.run(|| Command::new("ss").args(["-Hltn"]).output())??;
        let text = String::from_utf8_lossy(&listeners.stdout).into_owned();
        let ours = |line: &&str| line.contains(":80 ") || line.contains(":7000 ");
        let others: Vec<&str> = text.lines().filter(|line| !ours(line)).collect();
        assert!(others.is_empty(), "{}: {others:?}", pod.name());
    }
    Ok(())
}

/// A name for an instance that no other test or run uses; the testkit sweeps what a killed run leaves of it.
fn name(what: &str) -> String {
    format!("kit-{}-{what}", std::process::id())
}

const SECOND: &str = "127.0.0.1:15021";
/// More than a busy machine needs, and less than a drain may take: one that hangs is seen.
const PATIENCE: Duration = Duration::from_secs(25);
