//! HTTP/1.1 GET, one at a time on a kept-alive connection.
//!
//! Every answer's status and length are checked. It never pipelines.

use super::LoadError;
use crate::lab::backends::route;

/// One connection's state.
#[derive(Debug)]
pub(crate) struct Http1 {
    asks: Asks,
    body: usize,
    head: Vec<u8>,
    body_left: Option<usize>,
    intended: u64,
}

/// What is asked for.
#[derive(Debug)]
enum Asks {
    /// Always the same, the whole request.
    One(Vec<u8>),
    /// Of so many routes the next one.
    Routes { count: usize, next: usize },
}

impl Http1 {
    pub(crate) fn new(path: &str, body: usize) -> Self {
        Self::asking(Asks::One(get(path)), body)
    }

    /// Asks for one of so many routes after the other, `first` of them first, in an order that is no neighbourhood.
    pub(crate) fn spread(count: usize, first: usize, body: usize) -> Self {
        Self::asking(Asks::Routes { count, next: first % count.max(1) }, body)
    }

    fn asking(asks: Asks, body: usize) -> Self {
        Self { asks, body, head: Vec::new(), body_left: None, intended: 0 }
    }

    pub(crate) fn request(&mut self, intended: u64, out: &mut Vec<u8>) {
        self.intended = intended;
        match &mut self.asks {
            Asks::One(request) => out.extend_from_slice(request),
            Asks::Routes { count, next } => {
                out.extend_from_slice(&get(&route(*next)));
                *next = (*next + STRIDE) % (*count).max(1);
            }
        }
    }

    pub(crate) fn received(&mut self, mut data: &[u8], done: &mut Vec<u64>) -> Result<(), LoadError> {
        if self.body_left.is_none() {
            if self.head.is_empty() {
                match self.parse(data)? {
                    Some(length) => data = &data[length..],
                    None => {
                        self.head.extend_from_slice(data);
                        return Ok(());
                    }
                }
            } else {
                let before = self.head.len();
                self.head.extend_from_slice(data);
                let head = std::mem::take(&mut self.head);
                match self.parse(&head)? {
                    Some(length) => data = &data[length.saturating_sub(before)..],
                    None => {
                        self.head = head;
                        return Ok(());
                    }
                }
            }
        }
        let left = self.body_left.unwrap_or(0).checked_sub(data.len()).ok_or(LoadError::Surplus)?;
        self.body_left = Some(left);
        if left == 0 {
            self.body_left = None;
            done.push(self.intended);
        }
        Ok(())
    }

    /// The head's length once it is complete; the body then follows.
    fn parse(&mut self, data: &[u8]) -> Result<Option<usize>, LoadError> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(data).map_err(LoadError::NotHttp)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let status = response.code.unwrap_or(0);
        if status != 200 {
            return Err(LoadError::Status(status));
        }
        let announced = response
            .headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case("content-length"))
            .and_then(|h| std::str::from_utf8(h.value).ok()?.parse::<u64>().ok())
            .ok_or(LoadError::NoLength)?;
        if announced != self.body as u64 {
            return Err(LoadError::Body { want: self.body, got: announced });
        }
        self.body_left = Some(self.body);
        Ok(Some(length))
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: web.bench\r\nUser-Agent: canopy-bench\r\n\r\n").into_bytes()
}

/// A prime that divides no number of routes that is measured: all are asked for before one is asked for again.
const STRIDE: usize = 7_919;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_asked_for_before_one_is_asked_for_again() {
        for count in [1, 100, 1_000, 10_000] {
            let mut http = Http1::spread(count, 123_456_789, 4);
            let mut asked = std::collections::BTreeSet::new();
            for _ in 0..count {
                let mut out = Vec::new();
                http.request(0, &mut out);
                asked.insert(out);
            }
            assert_eq!(asked.len(), count);
            assert!(asked.iter().all(|request| request.len() == get(&route(0)).len()));
        }
    }

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";

    #[test]
    fn an_answer_is_complete_however_it_is_cut() {
        for cut in 0..ANSWER.len() {
            let mut http = Http1::new("/", 4);
            let (mut done, mut out) = (Vec::new(), Vec::new());
            http.request(7, &mut out);
            for part in [&ANSWER[..cut], &ANSWER[cut..]] {
                if !part.is_empty() {
                    http.received(part, &mut done).unwrap();
                }
            }
            assert_eq!(done, [7], "cut at {cut}");
        }
    }

    #[test]
    fn an_error_status_is_a_failure() {
        let mut done = Vec::new();
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(Http1::new("/", 4).received(answer, &mut done), Err(LoadError::Status(503))));
    }

    #[test]
    fn a_body_of_another_length_is_a_failure() {
        let mut done = Vec::new();
        assert!(matches!(Http1::new("/", 5).received(ANSWER, &mut done), Err(LoadError::Body { .. })));
    }
}
