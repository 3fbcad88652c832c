//! A workload's key leaves its cell by no way that anybody is offered: no verb, no socket, no port, no log however loud, and no
//! core file.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use e2e::{HTTP, Origin, Stage, Vip, built, eventually};
use rustix::process::Signal;
use serde_json::Value;
use testkit::{Daemon, KitError, Options, Outcome, Pod, Process, http::get, unique_name};

/// A workload that calls another by tunnel, with a key that the test knows.
struct Scene {
    client: Pod,
    _web: Pod,
    _origin: Origin,
    vip: Vip,
    files: tempfile::TempDir,
    key: Key,
    stage: Stage,
}

/// A private key: as its file says it, and its 32 bytes themselves.
struct Key {
    text: String,
    bytes: Vec<u8>,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
        let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
        // Nobody can say that it allows a shorter way: so they speak by tunnel, and their keys are used.
        let odd = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {namespace: shop, name: odd}\nspec:\n  podSelector: {}\n  ingress: no list\n";
        stage.manifests.write("odd.yaml", odd)?;
        let (origin, files) = (Origin::start(&web, 80)?, tempfile::tempdir()?);
        for account in ["client", "web"] {
            let mut command = Command::new(built("canopy"));
            command.args([
                "certificate",
                "--identity",
                &format!("spiffe://cluster.local/ns/shop/sa/{account}"),
            ]);
            command.arg("--out").arg(files.path().join("shop").join(account));
            let written = command.arg("--ca-dir").arg(files.path().join("ca")).output()?;
            assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
            let said = [written.stdout, written.stderr].concat();
            assert!(!String::from_utf8_lossy(&said).contains("PRIVATE KEY"), "it is in its file alone");
        }
        let key = Key::read(&files.path().join("shop/client/tls.key"))?;
        Ok(Self { client, _web: web, _origin: origin, vip, files, key, stage })
    }

    fn daemon(&self, options: Options) -> Result<Daemon, Box<dyn std::error::Error + Send + Sync>> {
        let files = self.files.path().display().to_string();
        self.called(&["--ca", "files", "--certificates", &files], options)
    }

    /// A daemon that has carried a call by tunnel, so that a key was used.
    fn called(
        &self,
        arguments: &[&str],
        mut options: Options,
    ) -> Result<Daemon, Box<dyn std::error::Error + Send + Sync>> {
        let arguments = arguments.iter().chain(&["--log-level", "trace"]);
        options.arguments.extend(arguments.map(|&argument| argument.to_owned()));
        let mut daemon = Daemon::start_with(&self.stage.node, self.stage.manifests.path(), &options)?;
        eventually("a call is answered", || {
            get(&self.client, self.vip.at(80), "web.shop", "/").is_ok_and(|answer| answer.status == 200)
        })?;
        let line = daemon.wait_logged(|line| line["direction"] == "outbound" && line["status"] == 200)?;
        assert_eq!(line["delivery"], "tunnel", "{line}");
        Ok(daemon)
    }
}

impl Key {
    fn read(file: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let output = Command::new("openssl").args(["ec", "-outform", "DER", "-in"]).arg(file).output()?;
        let bytes = output.stdout.get(7..39).ok_or("openssl reads it")?.to_vec();
        let text = fs::read_to_string(file)?;
        // An authority's certificate may be in the file, too, and is no secret.
        let own = text.lines().skip_while(|line| !line.ends_with("PRIVATE KEY-----")).skip(1);
        let text: String = own.take_while(|line| !line.starts_with("-----")).collect();
        assert!(text.len() > 100, "{text}");
        Ok(Self { text, bytes })
    }

    /// Whether any eight of its bytes in a row are there: as such, in hexadecimal, as numbers, or as in its file.
    fn is_in(&self, what: &[u8]) -> bool {
        let text = String::from_utf8_lossy(what);
        let lower = text.to_lowercase();
        // The beginning of the file is that of every such key.
        let mut of_file = self.text.as_bytes().windows(12).skip(48);
        self.bytes.windows(8).any(|part| {
            let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            let numbers = format!("{part:?}");
            what.windows(8).any(|there| there == part)
                || lower.contains(&hex)
                || text.contains(numbers.trim_matches(['[', ']']))
        }) || of_file.any(|part| text.contains(&*String::from_utf8_lossy(part)))
    }
}

#[test]
fn no_key_is_on_any_surface() -> Outcome {
    let scene = Scene::new()?;
    let files = scene.files.path().display().to_string();
    let embedded = scene.files.path().join("ca").display().to_string();
    let authority = Key::read(&scene.files.path().join("ca/root.pem"))?;
    let ways: [(&[&str], &Key); 2] =
        [(&["--ca", "files", "--certificates", &files], &scene.key), (&["--ca-dir", &embedded], &authority)];
    for class in ["thread", "process"] {
        let tenant = format!(
            "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: shop}}\n\
             spec: {{namespaces: [shop], isolation: {class}, owner: {{uid: {OWNER}}}}}\n"
        );
        scene.stage.manifests.write("tenant.yaml", &tenant)?;
        for (arguments, key) in &ways {
            let owners = tempfile::tempdir()?;
            let directory = owners.path().display().to_string();
            let arguments = [arguments, &["--owners-dir", &directory][..]].concat();
            let daemon = scene.called(&arguments, Options::default())?;
            let surfaces = [
                verbs(&scene, &daemon)?,
                sockets(&daemon, &owners.path().join("shop.sock"))?,
                processes(&daemon, class == "process")?,
                logs(&daemon),
            ];
            for (what, said) in surfaces.into_iter().flatten() {
                let text = String::from_utf8_lossy(&said);
                assert!(
                    !looks_like_a_key(&said) && !key.is_in(&said),
                    "a key is in {what}, of class {class} with {arguments:?}: {text}"
                );
            }
        }
    }
    Ok(())
}

/// What was said, and where.
type Surfaces = Vec<(String, Vec<u8>)>;

/// A user of whom this machine knows nothing.
const OWNER: u32 = 20_021;

/// What every verb says that asks a daemon.
fn verbs(scene: &Scene, daemon: &Daemon) -> Result<Surfaces, Box<dyn std::error::Error + Send + Sync>> {
    let mut surfaces = Surfaces::new();
    for verb in [
        &["tree"][..],
        &["tree", "--json"],
        &["status"],
        &["status", "--json"],
        &["top", "--once"],
        &["top", "--once", "--json"],
        &["events"],
        &["events", "--json"],
        &["showback"],
        &["showback", "--format", "json"],
        &["trace", "--json", "--count", "3"],
        &["trace", "--pod", "shop/client", "--count", "3"],
    ] {
        let output = std::thread::scope(|scope| {
            let asked = scope.spawn(|| daemon.canopy(verb));
            // For `trace` to have something to say.
            while !asked.is_finished() {
                let _answer = get(&scene.client, scene.vip.at(80), "web.shop", "/");
            }
            asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        // `status` ends with 1 where an object is rejected, as here.
        // Nobody has a whole hour yet.
        let least = if verb[0] == "showback" { 2 } else { 60 };
        assert!(output.stdout.len() > least, "{verb:?} says: {output:?}");
        surfaces.push((format!("canopy {verb:?}"), [output.stdout, output.stderr].concat()));
    }
    Ok(surfaces)
}

/// What the sockets of the operator and of the owner say, and the port for metrics.
fn sockets(daemon: &Daemon, owner: &Path) -> Result<Surfaces, Box<dyn std::error::Error + Send + Sync>> {
    let mut surfaces = Surfaces::new();
    eventually("the owner has a socket", || owner.exists())?;
    for path in [
        "/tree",
        "/status",
        "/costs",
        "/events",
        "/showback",
        "/objects",
        "/certificates",
        "/keys",
        "/config_dump",
        "/debug",
        "/../proc/self/mem",
    ] {
        for socket in [&daemon.admin_socket(), owner] {
            let answer = ask(socket, path)?;
            assert!(answer.starts_with(b"HTTP/1.1 "), "{path}: {}", String::from_utf8_lossy(&answer));
            surfaces.push((format!("{path} of {}", socket.display()), answer));
        }
    }
    for path in ["/metrics", "/readyz", "/livez", "/certificates", "/keys", "/config_dump", "/tree", "/"] {
        surfaces.push((format!("{path} of the metrics port"), daemon.scrape(path)?.text().into_bytes()));
    }
    Ok(surfaces)
}

/// What the kernel shows of how the daemon and its cells' processes were started.
fn processes(daemon: &Daemon, has_cell: bool) -> Result<Surfaces, Box<dyn std::error::Error + Send + Sync>> {
    let mut pids = vec![daemon.pid()];
    for thread in fs::read_dir(format!("/proc/{}/task", daemon.pid()))?.flatten() {
        // A thread may have ended since.
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    assert_eq!(pids.len() > 1, has_cell, "{pids:?}");
    let mut surfaces = Surfaces::new();
    for pid in pids {
        let arguments = fs::read(format!("/proc/{pid}/cmdline"))?;
        assert!(!arguments.is_empty(), "{pid} still runs");
        surfaces.push((format!("the arguments of {pid}"), arguments));
        surfaces.push((format!("the environment of {pid}"), fs::read(format!("/proc/{pid}/environ"))?));
    }
    Ok(surfaces)
}

fn logs(daemon: &Daemon) -> Surfaces {
    let access: Vec<String> = daemon.access_log().iter().map(Value::to_string).collect();
    let own = daemon.output();
    assert!(!access.is_empty() && own.contains("TRACE"), "both logs are as loud as they can be: {own}");
    vec![("the access log".to_owned(), access.concat().into()), ("the own log".to_owned(), own.into())]
}

/// Whether there is what any key on P-256 begins with, also one that was generated in a cell and that nobody else has seen.
fn looks_like_a_key(what: &[u8]) -> bool {
    let text = String::from_utf8_lossy(what);
    // RFC 5915 and RFC 5958, as their first bytes are always.
    let beginnings: [(&[u8], &str); 2] = [
        (b"\x30\x77\x02\x01\x01\x04\x20", "MHcCAQEEI"),
        (b"\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", "AgEAMBMGByqGSM49AgEG"),
    ];
    text.contains("PRIVATE KEY")
        || beginnings.iter().any(|(bytes, base64)| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let numbers = format!("{bytes:?}");
            what.windows(bytes.len()).any(|there| there == *bytes)
                || text.contains(base64)
                || text.to_lowercase().contains(&hex)
                || text.contains(numbers.trim_matches(['[', ']']))
        })
}

#[test]
fn the_search_finds_a_key_however_it_is_written() -> Outcome {
    let scene = Scene::new()?;
    let (key, file) = (&scene.key, scene.files.path().join("shop/client/tls.key"));
    let hex: String = key.bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    for said in [fs::read(file)?, key.bytes.clone(), hex.into(), format!("{:?}", key.bytes).into()] {
        assert!(key.is_in(&said) && key.is_in(&[b"before ", &said[..], b" after"].concat()));
    }
    let other = scene.files.path().join("shop/web/tls.key");
    assert!(!key.is_in(&fs::read(&other)?), "another's is not this one");

    // One that nobody knows is found by its form.
    let convert = |form: &str| {
        let command = [&[form][..], if form == "pkcs8" { &["-topk8", "-nocrypt"] } else { &[] }].concat();
        Command::new("openssl").args(command).args(["-outform", "DER", "-in"]).arg(&other).output()
    };
    let text = fs::read_to_string(&other)?;
    let mut forms = vec![text.lines().skip(1).collect::<String>().into_bytes()];
    for der in [convert("ec")?.stdout, convert("pkcs8")?.stdout] {
        let hex: String = der.iter().map(|byte| format!("{byte:02X}")).collect();
        forms.extend([format!("{der:?}").into_bytes(), hex.into_bytes(), der]);
    }
    for form in forms {
        assert!(looks_like_a_key(&[b"before ", &form[..]].concat()), "{}", String::from_utf8_lossy(&form));
    }
    assert!(!looks_like_a_key(&fs::read(scene.files.path().join("shop/web/tls.crt"))?));
    Ok(())
}

#[test]
fn a_daemon_that_crashes_writes_no_core_file() -> Outcome {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    let instance = Some(unique_name(901));
    let binary = Some(dumping(folder.path(), &built("canopy"))?);
    let mut daemon = scene.daemon(Options { binary, instance: instance.clone(), ..Options::default() })?;
    let ended = crash(daemon.process())?;
    assert!(!ended.core_dumped(), "{ended}");
    assert_eq!(cores(folder.path())?, Vec::<PathBuf>::new());
    // What it left of steering, the next one clears.
    drop(scene.daemon(Options { instance, ..Options::default() })?);

    // That a crash of another program, started alike, is written here.
    let mut command = Command::new(dumping(folder.path(), Path::new("sleep"))?);
    command.arg("60");
    let mut other = Process::start(scene.stage.node.netns(), command)?;
    eventually("it runs", || {
        fs::read_to_string(format!("/proc/{}/comm", other.pid())).is_ok_and(|comm| comm.trim() == "sleep")
    })?;
    let ended = crash(&mut other)?;
    let is_file = !fs::read_to_string("/proc/sys/kernel/core_pattern")?.starts_with(['|', '\n', '/']);
    assert!(ended.core_dumped() || !is_file, "{ended}");
    assert_eq!(cores(folder.path())?.len(), usize::from(is_file));
    Ok(())
}

/// A program in `folder` that becomes another one, which may write a core file there as large as it likes.
fn dumping(folder: &Path, program: &Path) -> io::Result<PathBuf> {
    let script = folder.join(format!("{}.sh", program.file_name().unwrap_or_default().display()));
    let (into, program) = (folder.display(), program.display());
    fs::write(&script, format!("#!/bin/sh\nulimit -c unlimited\ncd {into}\nexec {program} \"$@\"\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

fn crash(process: &mut Process) -> Result<ExitStatus, KitError> {
    process.signal(Signal::ABORT);
    let ended = process.wait(Duration::from_secs(40));
    ended.ok_or_else(|| KitError::TimedOut {
        what: "the end of a process".to_owned(),
        limit: Duration::from_secs(40),
        output: process.output(),
    })
}

fn cores(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let files = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    Ok(files
        .into_iter()
        .map(|file| file.path())
        .filter(|path| !path.to_string_lossy().ends_with(".sh"))
        .collect())
}

/// What the admin socket answers, whole.
fn ask(socket: &Path, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
