//! What may be asked: from which pod, to where, with which request. Reads what strangers write: everything has a limit, and nothing is
//! repeated in an answer that a terminal could take for more than text.

use config::{
    finding::visible,
    name::{Name, Namespace, PodName},
};
use http::{
    HeaderName, HeaderValue, Method, Request, header,
    request::Parts,
    uri::{PathAndQuery, Uri},
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::hbone::authority::Authority;

/// A question, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// The pod that calls, `NAMESPACE/NAME`.
    pub from: String,
    /// Where to, `HOST:PORT`.
    pub to: String,
    /// The path of the request, with its query.
    pub path: Option<String>,
    /// Its method.
    pub method: Option<String>,
    /// Its headers, each `NAME: VALUE`.
    pub headers: Vec<String>,
}

/// A question that can be answered.
#[derive(Debug, Clone)]
pub struct Question {
    /// The pod that calls.
    pub from: PodName,
    /// Where to.
    pub to: Authority,
    /// The head of the request.
    pub request: Parts,
    /// Whether something was said that only an HTTP request has.
    pub is_http: bool,
}

/// Why something is no question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Too long.
    #[error("{what} has {actual} bytes, at most {limit} are read")]
    TooLong {
        /// The option.
        what: &'static str,
        /// Its bytes.
        actual: usize,
        /// How many may be.
        limit: usize,
    },
    /// Too many headers.
    #[error("--header is given {0} times, at most {HEADERS} are read")]
    TooMany(usize),
    /// No pod.
    #[error("--from must be NAMESPACE/POD, as shop/frontend, not {0:?}")]
    From(String),
    /// No destination.
    #[error("--to must be HOST:PORT, as cart.shop:80, 10.96.0.10:80 or [fd96::10]:80, not {0:?}")]
    To(String),
    /// No path.
    #[error("--path must begin with / and have no spaces, not {0:?}")]
    Path(String),
    /// No method.
    #[error("--method must be one of HTTP's, in capital letters, and not CONNECT, not {0:?}")]
    Method(String),
    /// No header.
    #[error("--header must be 'NAME: VALUE', not {0:?}")]
    Header(String),
    /// No such field.
    #[error("the question has a part that is not understood: {0:?}")]
    Unknown(String),
}

impl Ask {
    /// Of a call of gRPC, `SERVICE/METHOD` (PROTOCOL-HTTP2, "Requests").
    pub fn of_call(from: String, to: String, call: &str, headers: impl Iterator<Item = String>) -> Self {
        let content_type = "content-type: application/grpc".to_owned();
        let (path, method) = (Some(format!("/{call}")), Some("POST".to_owned()));
        Self { from, to, path, method, headers: headers.chain([content_type]).collect() }
    }

    /// As the query of a target.
    pub fn query(&self) -> String {
        let fields = [("from", Some(&self.from)), ("to", Some(&self.to)), ("path", self.path.as_ref())];
        let fields = fields.into_iter().chain([("method", self.method.as_ref())]);
        let fields = fields.chain(self.headers.iter().map(|header| ("header", Some(header))));
        let said = fields.filter_map(|(name, value)| Some((name, value?)));
        let pairs =
            said.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// Reads such a query.
    pub fn from_query(query: &str) -> Result<Self, AskError> {
        let mut ask = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let unknown = || AskError::Unknown(short(pair));
            let (name, value) = pair.split_once('=').ok_or_else(unknown)?;
            let value = percent_decode_str(value).decode_utf8().map_err(|_| unknown())?.into_owned();
            match name {
                "from" => ask.from = value,
                "to" => ask.to = value,
                "path" => ask.path = Some(value),
                "method" => ask.method = Some(value),
                "header" if ask.headers.len() <= HEADERS => ask.headers.push(value),
                "header" => return Err(AskError::TooMany(ask.headers.len() + 1)),
                _ => return Err(unknown()),
            }
        }
        Ok(ask)
    }

    /// Checks all of it.
    pub fn question(&self) -> Result<Question, AskError> {
        bounded("--from", &self.from, NAME_BYTES)?;
        bounded("--to", &self.to, NAME_BYTES)?;
        let said =
            [&self.from, &self.to].into_iter().chain(&self.path).chain(&self.method).chain(&self.headers);
        let (what, actual, limit) = ("the request", said.map(String::len).sum(), REQUEST_BYTES);
        if actual > limit {
            return Err(AskError::TooLong { what, actual, limit });
        }
        let from = pod(&self.from).ok_or_else(|| AskError::From(short(&self.from)))?;
        let to = Authority::parse(&self.to).map_err(|_| AskError::To(short(&self.to)))?;
        let is_http = self.path.is_some() || self.method.is_some() || !self.headers.is_empty();
        Ok(Question { from, request: self.request(&to)?, to, is_http })
    }

    fn request(&self, to: &Authority) -> Result<Parts, AskError> {
        let (mut request, ()) = Request::new(()).into_parts();
        request.method = self.method.as_deref().map_or(Ok(Method::GET), method)?;
        request.uri = self.path.as_deref().map_or(Ok(Uri::from_static("/")), path)?;
        if self.headers.len() > HEADERS {
            return Err(AskError::TooMany(self.headers.len()));
        }
        for text in &self.headers {
            bounded("--header", text, FIELD_BYTES)?;
            let (name, value) = header(text).ok_or_else(|| AskError::Header(short(text)))?;
            request.headers.append(name, value);
        }
        if let Ok(host) = HeaderValue::try_from(to.to_string()) {
            request.headers.entry(header::HOST).or_insert(host);
        }
        Ok(request)
    }
}

fn bounded(what: &'static str, text: &str, limit: usize) -> Result<(), AskError> {
    let actual = text.len();
    if actual > limit { Err(AskError::TooLong { what, actual, limit }) } else { Ok(()) }
}

fn pod(text: &str) -> Option<PodName> {
    let (namespace, name) = text.split_once('/')?;
    Some(PodName::new(Namespace::try_from(namespace).ok()?, Name::try_from(name).ok()?))
}

fn method(text: &str) -> Result<Method, AskError> {
    bounded("--method", text, NAME_BYTES)?;
    let method = Method::from_bytes(text.as_bytes()).ok();
    let is_fine = |method: &Method| *method != Method::CONNECT && !text.contains(char::is_lowercase);
    method.filter(is_fine).ok_or_else(|| AskError::Method(short(text)))
}

fn path(text: &str) -> Result<Uri, AskError> {
    bounded("--path", text, FIELD_BYTES)?;
    let wrong = || AskError::Path(short(text));
    if !text.starts_with('/') {
        return Err(wrong());
    }
    PathAndQuery::try_from(text).map(Uri::from).map_err(|_| wrong())
}

fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
    Some((name, HeaderValue::from_str(value.trim()).ok()?))
}

/// What is repeated of what was asked.
fn short(text: &str) -> String {
    visible(&text.chars().take(SHORT).collect::<String>())
}

/// A namespace, a name of 253 bytes and what is between them.
const NAME_BYTES: usize = 512;
/// Of a path or a header: as much as most servers take.
const FIELD_BYTES: usize = 8192;
/// Of all: three times as many, as each byte may be written with three, are still a target (65,534 bytes at most, says `http`).
const REQUEST_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
const SHORT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        Ask { from: "shop/frontend".to_owned(), to: "cart.shop:80".to_owned(), ..Ask::default() }
    }

    #[test]
    fn a_question_is_the_same_after_it_was_a_query() {
        let short = ask();
        assert_eq!(Ask::from_query(&short.query()), Ok(short));
        let ask = Ask {
            path: Some("/a?b=c&d=%20".to_owned()),
            method: Some("POST".to_owned()),
            headers: vec!["x-a: 1&2=3 ü".to_owned(), "x-b:".to_owned()],
            ..ask()
        };
        assert_eq!(Ask::from_query(&ask.query()), Ok(ask));
    }

    #[test]
    fn the_request_has_what_was_said_and_a_host_in_any_case() {
        let question = ask().question().unwrap();
        assert_eq!((question.request.method.as_str(), question.request.uri.path()), ("GET", "/"));
        assert_eq!(question.request.headers["host"], "cart.shop:80");
        assert!(!question.is_http);
        let headers = vec!["Host: other".to_owned(), "x-a: 1".to_owned(), "X-A:  2 ".to_owned()];
        let question = Ask { headers, ..ask() }.question().unwrap();
        assert_eq!(question.request.headers["host"], "other");
        let values: Vec<_> = question.request.headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert!(question.is_http);
    }

    #[test]
    fn what_is_no_question_is_refused_with_what_to_write_and_no_control_character() {
        let evil = "\x1b[2J\u{9b}\r\n";
        let cases = [
            ("--from", Ask { from: format!("shop{evil}"), ..ask() }),
            ("--from", Ask { from: "shop/a/b".to_owned(), ..ask() }),
            ("--from", Ask { from: "s".repeat(NAME_BYTES + 1), ..ask() }),
            ("--to", Ask { to: format!("cart{evil}:80"), ..ask() }),
            ("--to", Ask { to: "cart.shop".to_owned(), ..ask() }),
            ("--to", Ask { to: "cart.shop:0".to_owned(), ..ask() }),
            ("--path", Ask { path: Some(format!("/{evil}")), ..ask() }),
            ("--path", Ask { path: Some("relative".to_owned()), ..ask() }),
            ("--path", Ask { path: Some(format!("/{}", "p".repeat(FIELD_BYTES))), ..ask() }),
            ("--method", Ask { method: Some(format!("GET{evil}")), ..ask() }),
            ("--method", Ask { method: Some("get".to_owned()), ..ask() }),
            ("--method", Ask { method: Some("CONNECT".to_owned()), ..ask() }),
            ("--header", Ask { headers: vec![format!("x: {evil}x")], ..ask() }),
            ("--header", Ask { headers: vec!["no colon".to_owned()], ..ask() }),
            ("--header", Ask { headers: vec!["x: ".to_owned() + &"v".repeat(FIELD_BYTES)], ..ask() }),
            ("--header", Ask { headers: vec!["x: 1".to_owned(); HEADERS + 1], ..ask() }),
            ("the request", Ask { headers: vec!["x: ".to_owned() + &"v".repeat(8000); 3], ..ask() }),
        ];
        for (option, ask) in cases {
            let said = ask.question().map(drop).unwrap_err().to_string();
            assert!(said.starts_with(option), "{said}");
            assert!(!said.contains(|c: char| c.is_control()) && said.len() < 300, "{said:?}");
        }
    }

    #[test]
    fn the_longest_question_is_still_a_target() {
        let headers = vec![format!("x: {}", "%".repeat(REQUEST_BYTES / 2 - 20)); 2];
        let ask = Ask { headers, ..ask() };
        assert!(ask.question().is_ok());
        let target = format!("/explain?{}", ask.query());
        assert!(target.parse::<Uri>().is_ok(), "{} bytes", target.len());
    }

    #[test]
    fn a_query_that_no_command_line_writes_is_refused() {
        for query in ["what=1", "from", "from=%ff", &"header=x&".repeat(HEADERS + 2)] {
            assert!(Ask::from_query(query).is_err(), "{query}");
        }
    }
}
