//! What the plugin and the daemon say to each other: one request, one answer, each a line of JSON, then the end.
//!
//! The plugin is the one that a DaemonSet installed last, the daemon may be one version older or newer: fields may be added, and what is not
//! known is passed over. A change after which either would understand the other wrongly counts [`VERSION`] up. Lines are bounded.

use std::{io, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version that is spoken here.
pub const VERSION: u32 = 1;
/// Bytes of a line at most. The longest is that of a garbage collection, which names every sandbox of a node: 100 bytes each.
const LONGEST: usize = 256 * 1024;

/// What the plugin asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The version that it speaks.
    pub version: u32,
    /// What it asks.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What it may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Ask {
    /// A pod is about to start: answer when it is enrolled.
    Add(Attachment),
    /// Is this pod still enrolled?
    Check(Attachment),
    /// A sandbox is gone.
    Del {
        /// The sandbox.
        container: String,
    },
    /// All sandboxes that there are.
    Gc {
        /// They.
        valid: Vec<String>,
    },
}

/// A sandbox that has its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The sandbox.
    pub container: String,
    /// The file that names its network namespace.
    pub netns: PathBuf,
    /// The addresses that the plugins before this one gave it.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// How long the plugin will wait, in milliseconds.
    pub patience_ms: u64,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The version that it speaks.
    pub version: u32,
    /// What it says.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What it may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// The pod is steered and fenced.
    Enrolled,
    /// The pod is not this daemon's to capture.
    Outside {
        /// Why.
        why: String,
    },
    /// Nobody has told the daemon of such a pod within the time.
    Unknown {
        /// What it waited for.
        why: String,
    },
    /// The pod is this daemon's, and cannot be enrolled, or could not within the time.
    Refused {
        /// What is in the way, and what to do.
        why: String,
    },
    /// It is noted.
    Done,
    /// What was asked is not understood.
    Misunderstood {
        /// Why.
        why: String,
    },
}

impl Request {
    /// A request of this version.
    pub fn new(ask: Ask) -> Self {
        Self { version: VERSION, ask }
    }
}

impl Answer {
    /// An answer of this version.
    pub fn new(verdict: Verdict) -> Self {
        Self { version: VERSION, verdict }
    }
}

/// Sends one line.
pub async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

/// Receives one line, of at most so many bytes.
///
/// # Errors
/// `UnexpectedEof` where there is no line, `InvalidData` where it is too long or not understood.
pub async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await?;
        let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let end = read.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&read[..end.unwrap_or(count)]);
        if line.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than any may be"));
        }
        if end.is_some() {
            return serde_json::from_slice(&line).map_err(io::Error::from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_one_says_besides_is_passed_over() {
        let line = r#"{"version":1,"ask":"del","container":"c","reason":"new"}"#;
        let expected = Request::new(Ask::Del { container: "c".to_owned() });
        assert_eq!(serde_json::from_str::<Request>(line).unwrap(), expected);
        let line = r#"{"version":2,"verdict":"enrolled","after_ms":3}"#;
        assert_eq!(serde_json::from_str::<Answer>(line).unwrap().verdict, Verdict::Enrolled);
    }

    /// As version 1 is on the wire, for ever.
    #[test]
    fn version_1_is_written_as_it_was() {
        let attachment = Attachment {
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
            uid: "u".to_owned(),
            container: "c".to_owned(),
            netns: "/run/netns/x".into(),
            addresses: vec![IpAddr::from([10, 0, 0, 1])],
            patience_ms: 5,
        };
        let request = serde_json::to_string(&Request::new(Ask::Add(attachment))).unwrap();
        assert_eq!(
            request,
            r#"{"version":1,"ask":"add","namespace":"shop","name":"cart","uid":"u","container":"c","netns":"/run/netns/x","addresses":["10.0.0.1"],"patience_ms":5}"#
        );
        let answer = serde_json::to_string(&Answer::new(Verdict::Refused { why: "w".to_owned() })).unwrap();
        assert_eq!(answer, r#"{"version":1,"verdict":"refused","why":"w"}"#);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_or_does_not_end_is_none() {
        let endless = vec![b'x'; LONGEST + 4096];
        let error = receive::<Request>(&mut &endless[..]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = receive::<Request>(&mut &b"{\"version\":1"[..]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let error = receive::<Request>(&mut &b"no\n"[..]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn what_is_sent_is_received() {
        let (mut near, mut far) = tokio::io::duplex(16);
        let answer = Answer::new(Verdict::Unknown { why: "x".repeat(9000) });
        let (sent, received) = tokio::join!(send(&mut near, &answer), receive::<Answer>(&mut far));
        sent.unwrap();
        assert_eq!(received.unwrap(), answer);
    }
}
