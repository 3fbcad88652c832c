//! A watch as lines: each is one event.

use std::time::Duration;

use bytes::BytesMut;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::timeout;

use super::{access::told, api::ApiError};

/// The lines of a body. None of them is longer than it may be, whatever comes.
#[derive(Debug)]
pub(super) struct Lines {
    body: Body,
    /// What has come and is not given yet.
    rest: BytesMut,
    /// So much of it has no end of a line in it.
    searched: usize,
    most: usize,
}

impl Lines {
    pub(super) fn of(body: Body, most: usize) -> Self {
        Self { body, rest: BytesMut::new(), searched: 0, most }
    }

    /// The next line, without its end; `None` at the end. What broke off in a line is none.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<Option<BytesMut>, ApiError> {
        loop {
            if let Some(at) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.rest.split_to(self.searched + at + 1);
                line.truncate(line.len() - 1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.rest.len();
            if self.rest.len() > self.most {
                return Err(ApiError::TooLarge { most: self.most });
            }
            match timeout(patience, self.body.frame()).await.map_err(|_| ApiError::Silent(patience))? {
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(ApiError::Away("the watch ended within an event".to_owned())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(ApiError::Away(told(&error))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, most: usize) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut lines = Lines::of(Body::from(text.as_bytes().to_vec()), most);
            let mut out = Vec::new();
            loop {
                match lines.next(Duration::from_secs(1)).await {
                    Ok(Some(line)) => out.push(String::from_utf8(line.to_vec()).unwrap()),
                    Ok(None) => return out,
                    Err(error) => {
                        out.push(format!("! {error}"));
                        return out;
                    }
                }
            }
        })
    }

    #[test]
    fn a_line_is_an_event_and_what_broke_off_is_none() {
        assert_eq!(lines("{1}\n{2}\n", 9), ["{1}", "{2}"]);
        assert_eq!(lines("", 9), [""; 0]);
        let broken = lines("{1}\n{2", 9);
        assert!(broken[1].contains("within an event"), "{broken:?}");
    }

    #[test]
    fn a_line_without_an_end_is_not_taken_in() {
        let long = lines("{1}\n0123456789", 9);
        assert!(long[1].contains("more than 9 bytes"), "{long:?}");
    }
}
