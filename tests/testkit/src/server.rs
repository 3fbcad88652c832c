//! Servers that people really run, as processes in pods: nginx and Redis. Each writes its files into a
//! directory of its own, which goes when it goes.

use std::{fs, net::SocketAddr, process::Command};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{KitError, Pod, Process, scratch};

/// A server in a pod, with its directory. Dropping it ends the server.
#[derive(Debug)]
pub struct Server {
    process: Process,
    // Dropped after the process that writes into it.
    directory: TempDir,
}

impl Server {
    /// nginx over HTTP/1.1 at this port of both of the pod's addresses. It answers with its pod's name, at
    /// `/echo` with what it saw of the request, and at `/64` and `/16k` with that many bytes.
    ///
    /// # Errors
    /// nginx is not installed, or does not listen in time.
    pub fn nginx(pod: &Pod, port: u16) -> Result<Self, KitError> {
        Self::nginx_with(pod, port, "")
    }

    /// As [`Server::nginx`], with further lines for its `server` block.
    ///
    /// # Errors
    /// nginx is not installed, refuses the lines, or does not listen in time.
    pub fn nginx_with(pod: &Pod, port: u16, lines: &str) -> Result<Self, KitError> {
        let directory = scratch::directory("nginx")?;
        for (name, size) in [("64", 64), ("16k", 16 * 1024)] {
            write(&directory, name, &"x".repeat(size))?;
        }
        let file = write(&directory, "nginx.conf", &nginx_conf(&directory, pod, port, lines))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(directory.path()).arg("-c").arg(file).args(["-e", "stderr"]);
        Self::start(pod, command, directory, pod.at(port))
    }

    /// Redis at this port of both of the pod's addresses, in memory only.
    ///
    /// # Errors
    /// Redis is not installed, or does not listen in time.
    pub fn redis(pod: &Pod, port: u16) -> Result<Self, KitError> {
        let directory = scratch::directory("redis")?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", &pod.v4().to_string(), &pod.v6().to_string(), "127.0.0.1"]);
        command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.args(["--protected-mode", "no", "--dir"]).arg(directory.path());
        Self::start(pod, command, directory, pod.at(port))
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The directory that the server may write to.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    fn start(pod: &Pod, command: Command, directory: TempDir, at: SocketAddr) -> Result<Self, KitError> {
        let mut process = pod.start(command)?.stopped_by(Signal::TERM);
        process.wait_listening(pod.netns(), at)?;
        Ok(Self { process, directory })
    }
}

fn write(directory: &TempDir, name: &str, text: &str) -> Result<std::path::PathBuf, KitError> {
    let path = directory.path().join(name);
    fs::write(&path, text).map_err(|source| KitError::file(&path, source))?;
    Ok(path)
}

/// One process, no worker: what is pinned or measured is then one process id.
fn nginx_conf(directory: &TempDir, pod: &Pod, port: u16, lines: &str) -> String {
    let (root, name, v4, v6) = (directory.path().display(), pod.name(), pod.v4(), pod.v6());
    format!(
        "daemon off;\n\
         master_process off;\n\
         worker_rlimit_nofile 16384;\n\
         pid {root}/nginx.pid;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;\n\
         uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;\n\
         keepalive_requests 1000000000; keepalive_timeout 300s;\n\
         default_type text/plain;\n\
         server {{\n\
         listen {v4}:{port} backlog=4096; listen [{v6}]:{port} backlog=4096;\n\
         add_header x-pod {name} always;\n\
         location / {{ return 200 \"{name}\\n\"; }}\n\
         location = /64 {{ root {root}; }}\n\
         location = /16k {{ root {root}; }}\n\
         location /echo {{ return 200 \"pod={name} peer=$remote_addr method=$request_method \
         host=$http_host uri=$request_uri\\n\"; }}\n\
         {lines}\n\
         }}\n\
         }}\n"
    )
}
