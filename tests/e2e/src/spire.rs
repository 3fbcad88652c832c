//! The real SPIRE: a server, and an agent per node, as an operator sets them up. What `scripts/spire` has built is run.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;
use testkit::{KitError, Netns, Process};

/// A server, at port 8081 of all addresses of a namespace.
#[derive(Debug)]
pub struct SpireServer {
    directory: TempDir,
    process: Process,
    address: Ipv4Addr,
}

/// An agent that is attested by a join token.
#[derive(Debug)]
pub struct SpireAgent {
    id: String,
    directory: TempDir,
    process: Process,
}

impl SpireServer {
    /// Starts it in `netns`, where it is known as `address`. Certificates and the authority live for so long.
    ///
    /// # Errors
    /// It is not built, or not ready in time.
    pub fn start(
        netns: &Netns,
        address: Ipv4Addr,
        leaves: Duration,
        authority: Duration,
    ) -> Result<Self, KitError> {
        let directory = directory()?;
        let data = directory.path().display();
        let (leaves, authority) = (leaves.as_secs(), authority.as_secs());
        let configuration = format!(
            "server {{\n bind_address = \"0.0.0.0\"\n bind_port = \"{PORT}\"\n socket_path = \"{data}/api.sock\"\n \
             trust_domain = \"{TRUST_DOMAIN}\"\n data_dir = \"{data}\"\n default_x509_svid_ttl = \"{leaves}s\"\n \
             ca_ttl = \"{authority}s\"\n}}\nplugins {{\n DataStore \"sql\" {{ plugin_data {{ database_type = \"sqlite3\"\n \
             connection_string = \"{data}/data.sqlite3\" }} }}\n NodeAttestor \"join_token\" {{ plugin_data {{}} }}\n \
             KeyManager \"memory\" {{ plugin_data {{}} }}\n}}\n"
        );
        let mut command = Command::new(tool("spire-server")?);
        command.arg("run").arg("-config").arg(write(directory.path(), "server.conf", &configuration)?);
        let process = Process::start(netns, command)?.stopped_by(Signal::TERM);
        let mut server = Self { directory, process, address };
        let socket = server.socket();
        server.process.wait_until("the server's socket", START, || {
            run("spire-server", &["healthcheck", "-socketPath", &socket]).is_ok()
        })?;
        Ok(server)
    }

    /// An agent in `netns`, with an admin socket that a process with the SPIFFE ID `/canopy` may use.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn agent(&self, netns: &Netns, name: &str) -> Result<SpireAgent, KitError> {
        let token = self.ask(&["token", "generate"])?;
        // It says: `Token: ID`, and may go on.
        let token = token.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let id = format!("spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}");
        let directory = directory()?;
        let (data, address) = (directory.path().display(), self.address);
        fs::create_dir(directory.path().join("public")).map_err(|error| file(directory.path(), error))?;
        let configuration = format!(
            "agent {{\n data_dir = \"{data}\"\n log_level = \"INFO\"\n server_address = \"{address}\"\n \
             server_port = \"{PORT}\"\n socket_path = \"{data}/public/api.sock\"\n \
             admin_socket_path = \"{data}/private/admin.sock\"\n authorized_delegates = [\"{DELEGATE}\"]\n \
             insecure_bootstrap = true\n trust_domain = \"{TRUST_DOMAIN}\"\n join_token = \"{token}\"\n}}\nplugins {{\n \
             NodeAttestor \"join_token\" {{ plugin_data {{}} }}\n KeyManager \"memory\" {{ plugin_data {{}} }}\n \
             WorkloadAttestor \"unix\" {{ plugin_data {{}} }}\n}}\n"
        );
        let mut command = Command::new(tool("spire-agent")?);
        command.arg("run").arg("-config").arg(write(directory.path(), "agent.conf", &configuration)?);
        let process = Process::start(netns, command)?.stopped_by(Signal::TERM);
        let mut agent = SpireAgent { id, directory, process };
        let socket = agent.admin_socket();
        agent.process.wait_until(&format!("the admin socket of {name}"), START, || socket.exists())?;
        Ok(agent)
    }

    /// Registers `path` of the trust domain for what has these selectors on the agent's node.
    ///
    /// # Errors
    /// The server refuses.
    pub fn register(&self, agent: &SpireAgent, path: &str, selectors: &[&str]) -> Result<(), KitError> {
        let id = format!("spiffe://{TRUST_DOMAIN}{path}");
        let mut arguments = vec!["entry", "create", "-parentID", &agent.id, "-spiffeID", &id];
        for selector in selectors {
            arguments.extend(["-selector", selector]);
        }
        self.ask(&arguments).map(drop)
    }

    /// What it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    fn socket(&self) -> String {
        self.directory.path().join("api.sock").display().to_string()
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, KitError> {
        let socket = self.socket();
        let mut all = arguments.to_vec();
        all.extend(["-socketPath", &socket]);
        run("spire-server", &all)
    }
}

impl SpireAgent {
    /// Its admin socket, as `--ca spire:` takes it.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.directory.path().join("private/admin.sock")
    }

    /// The socket of its Workload API.
    #[must_use]
    pub fn workload_socket(&self) -> PathBuf {
        self.directory.path().join("public/api.sock")
    }

    /// What it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// Whose identities it issues.
pub const TRUST_DOMAIN: &str = "mesh.test";
/// The SPIFFE ID that an agent takes for a delegate.
pub const DELEGATE: &str = "spiffe://mesh.test/canopy";
const PORT: u16 = 8081;
const START: Duration = Duration::from_secs(60);

fn run(program: &str, arguments: &[&str]) -> Result<String, KitError> {
    let mut command = Command::new(tool(program)?);
    command.args(arguments);
    let output = command.output().map_err(|source| KitError::Start { what: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(KitError::Failed {
        command: format!("{command:?}"),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn tool(program: &str) -> Result<PathBuf, KitError> {
    let path = crate::repository().join("target/tools").join(program);
    if path.is_file() {
        return Ok(path);
    }
    Err(KitError::MissingProgram {
        program: program.to_owned(),
        remedy: "build it with `scripts/spire`".into(),
    })
}

fn directory() -> Result<TempDir, KitError> {
    let made = tempfile::Builder::new().prefix("spire-").tempdir();
    made.map_err(|error| file(&std::env::temp_dir(), error))
}

fn write(directory: &Path, name: &str, text: &str) -> Result<PathBuf, KitError> {
    let path = directory.join(name);
    fs::write(&path, text).map_err(|error| file(&path, error))?;
    Ok(path)
}

fn file(path: &Path, source: std::io::Error) -> KitError {
    KitError::Start { what: path.display().to_string(), source }
}
