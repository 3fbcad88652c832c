//! Where the control plane is, and the connection to it.
//!
//! Without TLS only to this machine: whoever can answer for a control plane decides who may talk to whom.

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::identity::authority::{
    dial::{self, CONNECT},
    istio::Address,
    report,
};

/// Where the control plane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A Unix socket of this machine.
    Unix(PathBuf),
    /// A port of this machine.
    Plain(SocketAddr),
    /// Anywhere, by TLS.
    Tls(Address),
}

/// How TLS is spoken with it.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The roots that its certificate has to lead to, PEM.
    pub root: PathBuf,
    /// The name that it has to have; `None` is the host of its address.
    pub name: Option<String>,
    /// The certificate to show, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err("name the socket by its full path: unix:/run/canopy/control.sock".to_owned())
            };
        }
        if let Some(address) = text.strip_prefix("https://") {
            return address.trim_end_matches('/').parse().map(Self::Tls).map_err(|_| HTTPS.to_owned());
        }
        let Some(address) = text.strip_prefix("http://") else { return Err(FORMS.to_owned()) };
        match address.trim_end_matches('/').parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() && address.port() > 0 => Ok(Self::Plain(address)),
            _ => Err(LOOPBACK.to_owned()),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Plain(address) => write!(f, "http://{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
        }
    }
}

/// Connects; an error says what to do where that is known.
pub(super) async fn connect(server: &Server, tls: &Arc<Tls>) -> Result<Channel, String> {
    let endpoint = |uri: &str| Endpoint::from_shared(uri.to_owned()).map(keep_alive);
    let connected = match server.clone() {
        Server::Unix(path) => {
            let dial = service_fn(move |_| {
                let path = path.clone();
                async move { within(UnixStream::connect(path)).await.map(TokioIo::new) }
            });
            // Nobody looks at the name: a Unix socket has one server.
            endpoint("http://localhost").map_err(|error| report(&error))?.connect_with_connector(dial).await
        }
        Server::Plain(address) => {
            let dial = service_fn(move |_| async move {
                let stream = within(TcpStream::connect(address)).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            });
            endpoint(&server.to_string()).map_err(|error| report(&error))?.connect_with_connector(dial).await
        }
        Server::Tls(address) => {
            let tls = Arc::clone(tls);
            let dial = service_fn(move |_| {
                let (tls, address) = (Arc::clone(&tls), address.clone());
                async move {
                    let stream = dial::dial(tls.of(&address)).await;
                    stream.map(TokioIo::new).map_err(|error| io::Error::other(report(&error)))
                }
            });
            endpoint(&server.to_string()).map_err(|error| report(&error))?.connect_with_connector(dial).await
        }
    };
    connected.map_err(|error| report(&error))
}

impl Tls {
    fn of<'a>(&'a self, address: &'a Address) -> dial::Server<'a> {
        dial::Server {
            address,
            name: self.name.as_deref(),
            root: &self.root,
            remedy: "name the file of the control plane's root with --discovery-root",
            certificate: self.certificate.as_ref().map(|(chain, key)| (chain.as_path(), key.as_path())),
        }
    }
}

async fn within<T>(connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let connected = tokio::time::timeout(CONNECT, connect).await;
    connected.unwrap_or_else(|_| Err(io::Error::other(format!("no connection within {CONNECT:?}"))))
}

/// A control plane that is gone without a word is noticed; and the first response is large.
fn keep_alive(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
}

const FORMS: &str = "give unix:PATH, https://HOST:PORT, or http://127.0.0.1:PORT for one on this machine";
const HTTPS: &str = "give https://HOST:PORT, as in https://istiod.istio-system.svc:15012";
const LOOPBACK: &str = "without TLS a control plane has to be on this machine, by its address, as in http://127.0.0.1:15010: \
                        give https://HOST:PORT for any other";
/// As Istio's own proxies do.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(10);
/// Bytes.
const WINDOW: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_a_path_or_an_address() {
        for text in
            ["unix:/run/x.sock", "http://127.0.0.1:15010", "http://[::1]:15010", "https://istiod.svc:15012"]
        {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), text);
        }
        assert_eq!("unix:///run/x".parse(), Ok(Server::Unix("/run/x".into())));
        assert_eq!("https://a:1/".parse::<Server>().unwrap().to_string(), "https://a:1");
    }

    #[test]
    fn plaintext_goes_to_this_machine_alone() {
        for text in
            ["http://10.0.0.1:15010", "http://istiod:15010", "http://localhost:15010", "http://127.0.0.1:0"]
        {
            assert_eq!(text.parse::<Server>(), Err(LOOPBACK.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_server_says_what_one_is() {
        assert!("unix:x".parse::<Server>().unwrap_err().contains("full path"));
        assert!("https://istiod".parse::<Server>().unwrap_err().contains("https://HOST:PORT"));
        assert!("istiod:15012".parse::<Server>().unwrap_err().contains("unix:PATH"));
    }
}
