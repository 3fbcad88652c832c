//! Where nodes come in: a Unix socket, or a TCP port.
//!
//! A Unix socket is for root and the server's own user, whatever its mode says. A port without TLS must never be one that other
//! machines reach.

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::sys::{
    private::{Private, Taken},
    socket,
};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On a Unix socket.
    Unix(PathBuf),
    /// On a TCP port.
    Tcp(SocketAddr),
}

/// Why it cannot be listened there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Others would read along.
    #[error(
        "--listen {address}: without TLS, whoever reaches the port reads the whole mesh, and so does everybody on the way: give \
         --certificate and --key, with --client-roots that only nodes have certificates of, or listen on 127.0.0.1 or a unix:PATH"
    )]
    InTheClear {
        /// The address.
        address: SocketAddr,
    },
    /// Another server answers on it.
    #[error("a control plane is already running on {path}; give this one another --listen")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket is in the way.
    #[error("{path} is there and is not a socket; move it away or give another --listen")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot listen on {at}; give another --listen")]
    Bind {
        /// Where.
        at: Listen,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A bound place. A Unix socket's file goes when this is dropped.
#[derive(Debug)]
pub(super) enum Door {
    Unix(Private),
    Tcp { listener: TcpListener, secure: bool },
}

/// Who came in.
#[derive(Debug)]
pub(super) enum Caller {
    Unix(UnixStream),
    Tcp { stream: TcpStream, from: SocketAddr, secure: bool },
}

impl Door {
    /// Binds it. `secure`: what comes over TCP is spoken to in TLS.
    pub(super) async fn open(at: &Listen, secure: bool) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { at: at.clone(), source };
        match at {
            Listen::Unix(path) => Private::bind(path).map(Self::Unix).map_err(|taken| match taken {
                Taken::InUse => ListenError::InUse { path: path.clone() },
                Taken::NotASocket => ListenError::NotASocket { path: path.clone() },
                Taken::System(source) => failed(source),
            }),
            Listen::Tcp(address) => {
                if !secure && !address.ip().to_canonical().is_loopback() {
                    return Err(ListenError::InTheClear { address: *address });
                }
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                socket::prepare(&listener, UNACKNOWLEDGED).map_err(failed)?;
                Ok(Self::Tcp { listener, secure })
            }
        }
    }

    /// Where it is bound; the port is the kernel's choice where 0 was asked for.
    pub(super) fn address(&self) -> io::Result<Listen> {
        match self {
            Self::Unix(socket) => Ok(Listen::Unix(socket.path().to_owned())),
            Self::Tcp { listener, .. } => Ok(Listen::Tcp(listener.local_addr()?)),
        }
    }

    /// The next who comes in; `None` for one who may not.
    pub(super) async fn accept(&self) -> io::Result<Option<Caller>> {
        match self {
            Self::Unix(socket) => {
                let caller = socket.accept().await?.map(Caller::Unix);
                if caller.is_none() {
                    tracing::warn!(socket = %socket.path().display(), "a stranger's connection was refused");
                }
                Ok(caller)
            }
            Self::Tcp { listener, secure } => {
                let (stream, from) = listener.accept().await?;
                Ok(Some(Caller::Tcp { stream, from, secure: *secure }))
            }
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => match path.strip_prefix("//").unwrap_or(path) {
                path if path.starts_with('/') => Ok(Self::Unix(path.into())),
                _ => Err("name the socket by its full path: unix:/run/canopy/control.sock".to_owned()),
            },
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "one of: unix:PATH, IP:PORT, as unix:/run/canopy/control.sock or 127.0.0.1:15012".to_owned()
            }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// How long a node's kernel may leave what was sent without a word.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn where_to_listen_is_a_socket_by_its_full_path_or_an_address() {
        let parse = |text: &str| text.parse::<Listen>();
        assert_eq!(parse("unix:/run/x.sock"), Ok(Listen::Unix("/run/x.sock".into())));
        assert_eq!(parse("unix:///run/x.sock"), Ok(Listen::Unix("/run/x.sock".into())));
        assert_eq!(parse("[::1]:15012"), Ok(Listen::Tcp("[::1]:15012".parse().unwrap())));
        assert!(parse("unix:x.sock").unwrap_err().contains("full path"));
        for wrong in ["", "15012", ":15012", "localhost:15012", "/run/x.sock"] {
            assert!(parse(wrong).unwrap_err().contains("unix:PATH"), "{wrong}");
        }
    }

    #[tokio::test]
    async fn without_tls_only_this_machine_is_listened_to() {
        let open =
            async |address: &str, secure| Door::open(&Listen::Tcp(address.parse().unwrap()), secure).await;
        for open_to_all in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
            let error = open(open_to_all, false).await.unwrap_err();
            assert!(matches!(error, ListenError::InTheClear { .. }), "{open_to_all}: {error}");
            assert!(error.to_string().contains("--certificate"), "{error}");
        }
        assert!(open("127.0.0.1:0", false).await.is_ok());
        assert!(open("0.0.0.0:0", true).await.is_ok());
    }

    #[tokio::test]
    async fn a_socket_is_for_its_user_takes_the_place_of_a_dead_one_and_goes_with_its_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/control.sock");
        let at = Listen::Unix(path.clone());
        let door = Door::open(&at, true).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Door::open(&at, true).await, Err(ListenError::InUse { .. })));
        drop(door);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Door::open(&at, true).await.is_ok(), "nobody answers there");
        fs::write(&path, "").unwrap();
        assert!(matches!(Door::open(&at, true).await, Err(ListenError::NotASocket { .. })));
    }
}
