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
        let arguments = ["--ca", "files", "--certificates", &files, "--log-level", "trace"];
        let options = Options { arguments: arguments.map(str::to_owned).to_vec(), ..options };
        let mut daemon = Daemon::start_with(&self.stage.node, self.stage.manifests.path(), &options)?;
        assert_eq!(get(&self.client, self.vip.at(80), "web.shop", "/")?.status, 200);
        let line = daemon.wait_logged(|line| line["path"] == "/" && line["direction"] == "outbound")?;
        assert_eq!(line["delivery"], "tunnel", "{line}");
        Ok(daemon)
    }
}

impl Key {
    fn read(file: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let output = Command::new("openssl").args(["ec", "-outform", "DER", "-in"]).arg(file).output()?;
        let bytes = output.stdout.get(7..39).ok_or("openssl reads it")?.to_vec();
        let text = fs::read_to_string(file)?;
        let text: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
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
    let daemon = scene.daemon(Options::default())?;
    let mut surfaces: Vec<(String, Vec<u8>)> = Vec::new();
    for verb in [
        &["tree"][..],
        &["tree", "--json"],
        &["status"],
        &["status", "--json"],
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
        assert!(output.stdout.len() > 100, "{verb:?} says: {output:?}");
        surfaces.push((format!("canopy {verb:?}"), [output.stdout, output.stderr].concat()));
    }
    for path in ["/tree", "/status", "/certificates", "/keys", "/config_dump", "/debug", "/../proc/self/mem"]
    {
        let answer = ask(&daemon.admin_socket(), path)?;
        assert!(answer.starts_with(b"HTTP/1.1 "), "{path}: {}", String::from_utf8_lossy(&answer));
        surfaces.push((format!("{path} of the admin socket"), answer));
    }
    for path in ["/metrics", "/readyz", "/livez", "/certificates", "/keys", "/config_dump", "/tree", "/"] {
        surfaces.push((format!("{path} of the metrics port"), daemon.scrape(path)?.text().into_bytes()));
    }
    let access: Vec<String> = daemon.access_log().iter().map(Value::to_string).collect();
    let own = daemon.output();
    assert!(!access.is_empty() && own.contains("TRACE"), "both logs are as loud as they can be: {own}");
    surfaces.extend([
        ("the access log".to_owned(), access.concat().into()),
        ("the own log".to_owned(), own.into()),
    ]);
    for (what, said) in surfaces {
        let text = String::from_utf8_lossy(&said);
        assert!(!text.contains("PRIVATE KEY") && !scene.key.is_in(&said), "a key is in {what}: {text}");
    }
    Ok(())
}

#[test]
fn the_search_finds_a_key_however_it_is_written() -> Outcome {
    let scene = Scene::new()?;
    let (key, file) = (&scene.key, scene.files.path().join("shop/client/tls.key"));
    let hex: String = key.bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    for said in [fs::read(file)?, key.bytes.clone(), hex.into(), format!("{:?}", key.bytes).into()] {
        assert!(key.is_in(&said) && key.is_in(&[b"before ", &said[..], b" after"].concat()));
    }
    assert!(!key.is_in(&fs::read(scene.files.path().join("shop/web/tls.key"))?), "another's is not this one");
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
