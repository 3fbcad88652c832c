//! The servers in a subject's server pod: nginx for HTTP/1.1 and HTTP/2, the bench's own for tcp.
//!
//! Every subject has its own, all alike, all on the load's CPU; the idle ones cost nothing.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use testkit::{Netns, Pod, Process};

use super::LOAD_CPU;
use crate::{
    clock,
    error::BenchError,
    load::{Place, http2},
    role,
};

/// What a backend serves, and at which port of the server pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// nginx, HTTP/1.1.
    Http,
    /// nginx, HTTP/2 with prior knowledge.
    Http2,
    /// Bytes come back.
    Echo,
    /// Bytes are asked for.
    Source,
}

impl Port {
    pub(crate) const ALL: [Self; 4] = [Self::Http, Self::Http2, Self::Echo, Self::Source];

    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Http => 8080,
            Self::Http2 => 8081,
            Self::Echo => 9000,
            Self::Source => 9001,
        }
    }

    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2)
    }
}

/// Running servers.
#[derive(Debug)]
pub(crate) struct Backends {
    _nginx: Process,
    _tcp: Process,
}

/// Where and how they run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Added to every port: two sets of servers may share a pod.
    pub shift: u16,
    /// Whether they go before other servers and load on their CPU.
    pub favoured: bool,
}

impl Backends {
    /// Starts them and waits until they listen. `directory` is for nginx's files.
    pub(crate) fn start(pod: &Pod, directory: &Path) -> Result<Self, BenchError> {
        Self::start_in(pod, directory, Manner::default())
    }

    /// The same, in a manner of their own.
    pub(crate) fn start_in(pod: &Pod, directory: &Path, manner: Manner) -> Result<Self, BenchError> {
        let conf = write_nginx_files(directory, manner.shift)?;
        let mut nginx = role::pinned(LOAD_CPU, if manner.favoured { "nice" } else { "nginx" })?;
        if manner.favoured {
            nginx.args(["-n", "-20", "nginx"]);
        }
        nginx.arg("-p").arg(directory).arg("-c").arg(conf);
        let mut nginx = pod.start(nginx)?.stopped_by(Signal::TERM);
        let tcp = start_tcp_at(pod, manner.shift)?;
        nginx.wait_listening(pod.netns(), everywhere(Port::Http, manner.shift))?;
        nginx.wait_listening(pod.netns(), everywhere(Port::Http2, manner.shift))?;
        Ok(Self { _nginx: nginx, _tcp: tcp })
    }
}

/// One server for all these pods, which listens in each of them.
pub(crate) fn start_web(home: &Netns, pods: &[Pod]) -> Result<Process, BenchError> {
    let target = everywhere(Port::Http, 0);
    let place = |pod: &Pod| Place { netns: pod.netns_path().to_owned(), target };
    let spec = role::WebSpec { cpu: LOAD_CPU, places: pods.iter().map(place).collect() };
    let mut web = Process::start(home, role::command("web", &spec)?)?;
    let serves = clock::wait_until(STARTS, || web.output().contains(role::SERVING) || web.has_ended());
    if serves && !web.has_ended() { Ok(web) } else { Err(BenchError::Load(web.output())) }
}

/// How long it may take to listen in all pods.
const STARTS: Duration = Duration::from_secs(10);

/// An app that passes every request on to the next, on connections that it keeps; or, the last, answers it.
pub(crate) fn start_app(
    pod: &Pod,
    directory: &Path,
    next: Option<SocketAddr>,
) -> Result<Process, BenchError> {
    fs::create_dir_all(directory.join("tmp"))
        .map_err(|e| BenchError::io(format!("create {}", directory.display()), e))?;
    let conf = directory.join("nginx.conf");
    let text = match next {
        None => nginx_conf(directory, 0),
        Some(next) => passing_conf(directory, next),
    };
    fs::write(&conf, text).map_err(|e| BenchError::io(format!("write {}", conf.display()), e))?;
    let mut nginx = role::pinned(LOAD_CPU, "nginx")?;
    nginx.arg("-p").arg(directory).arg("-c").arg(conf);
    let mut nginx = pod.start(nginx)?.stopped_by(Signal::TERM);
    nginx.wait_listening(pod.netns(), everywhere(Port::Http, 0))?;
    Ok(nginx)
}

fn passing_conf(directory: &Path, next: SocketAddr) -> String {
    let directory = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {directory}/tmp;\n"))
        .concat();
    format!(
        "daemon off;
worker_processes 1;
user root;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
{temporary}    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    tcp_nodelay on;
    upstream next {{
        server {next};
        keepalive 64;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen {http};
        location / {{
            proxy_pass http://next;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host web.bench;
        }}
    }}
}}
",
        http = Port::Http.number(),
    )
}

/// Only what serves tcp.
pub(crate) fn start_tcp(pod: &Pod) -> Result<Process, BenchError> {
    start_tcp_at(pod, 0)
}

fn start_tcp_at(pod: &Pod, shift: u16) -> Result<Process, BenchError> {
    let (echo, source) = (everywhere(Port::Echo, shift), everywhere(Port::Source, shift));
    let spec = role::BackendSpec { cpu: LOAD_CPU, echo, source };
    let mut tcp = pod.start(role::command("backend", &spec)?)?;
    tcp.wait_listening(pod.netns(), source)?;
    Ok(tcp)
}

fn everywhere(port: Port, shift: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port.number() + shift))
}

/// Bytes of the bodies that nginx serves, at `/64`, `/1024` and `/16384`.
pub(crate) const SMALL: usize = 64;
/// See [`SMALL`].
pub(crate) const MIDDLE: usize = 1 << 10;
/// See [`SMALL`].
pub(crate) const LARGE: usize = 16 << 10;

/// The file of a message of gRPC.
const MESSAGE: &str = "message";

/// The path of a route, in the scenario that has many; nginx serves the small body at each of them. All are of one length.
pub(crate) fn route(number: usize) -> String {
    format!("{ROUTES}{number:05}")
}

/// What a call of gRPC asks for; nginx answers with a message of [`SMALL`] bytes and a status of 0. It reads a request to its end
/// only for a mirror, and a file is not for POST: hence the detour.
pub(crate) const CALL: &str = "/bench.Echo/Get";

const ROUTES: &str = "/route/";

fn write_nginx_files(directory: &Path, shift: u16) -> Result<PathBuf, BenchError> {
    let temporary = directory.join("tmp");
    let failed = |path: &Path| {
        let what = format!("write {}", path.display());
        |e| BenchError::io(what, e)
    };
    fs::create_dir_all(&temporary).map_err(failed(&temporary))?;
    let large = directory.join(LARGE.to_string());
    fs::write(&large, "x".repeat(LARGE)).map_err(failed(&large))?;
    let message = directory.join(MESSAGE);
    fs::write(&message, http2::message(SMALL)).map_err(failed(&message))?;
    let conf = directory.join("nginx.conf");
    fs::write(&conf, nginx_conf(directory, shift)).map_err(failed(&conf))?;
    Ok(conf)
}

fn nginx_conf(directory: &Path, shift: u16) -> String {
    let (small, middle) = ("x".repeat(SMALL), "x".repeat(MIDDLE));
    let directory = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {directory}/tmp;\n"))
        .concat();
    format!(
        "daemon off;
worker_processes 1;
user root;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
{temporary}    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    default_type text/plain;
    tcp_nodelay on;
    sendfile on;
    open_file_cache max=16;
    http2_max_concurrent_streams 1024;
    server {{
        listen {http};
        listen {http2} http2;
        root {directory};
        location = /{SMALL} {{ return 200 \"{small}\"; }}
        location = /{MIDDLE} {{ return 200 \"{middle}\"; }}
        location = {CALL} {{ mirror /read; alias {directory}/{MESSAGE}; error_page 405 =200 /{MESSAGE}; }}
        location = /read {{ internal; return 204; }}
        location = /{MESSAGE} {{ default_type application/grpc; add_trailer grpc-status 0; }}
        location {ROUTES} {{ return 200 \"{small}\"; }}
    }}
}}
",
        http = Port::Http.number() + shift,
        http2 = Port::Http2.number() + shift,
    )
}
