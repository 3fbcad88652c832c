//! One stream on its connection: what the node says, one by one, and what it is sent, when it takes it.
//!
//! What is to be sent is made when the connection asks for it, and it asks when what was sent before is on its way: nothing is made
//! for a node that does not read.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::{
    super::protocol::{Request, Response},
    activity::{Activity, OpenStream},
    stream::{Next, Refusal},
    streams::Place,
};

/// A stream.
#[derive(Debug)]
pub(super) struct Session {
    place: Place,
    requests: Streaming<Request>,
    stream: OpenStream,
    /// When something was heard or sent last.
    last: Instant,
    /// Whether a response was given to the connection, and not asked for another since.
    is_sending: bool,
    is_over: bool,
}

/// What wakes a session.
enum Event {
    Heard(Box<Result<Option<Request>, Status>>),
    Woken,
    Late,
}

impl Session {
    /// The stream that asks by `requests`.
    pub(super) fn new(place: Place, requests: Streaming<Request>, activity: Arc<Activity>) -> Self {
        let stream = OpenStream::new(activity);
        Self { place, requests, stream, last: Instant::now(), is_sending: false, is_over: false }
    }

    /// The next response; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Result<Response, Status>> {
        self.sending(false);
        loop {
            if self.is_over {
                return None;
            }
            match self.place.next() {
                Next::Send(_, response) => {
                    self.last = Instant::now();
                    self.sending(true);
                    return Some(Ok(response));
                }
                Next::Pause => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::Wait => {}
            }
            let deadline = self.deadline();
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                heard = self.requests.message() => Event::Heard(Box::new(heard)),
                () = self.place.woken() => Event::Woken,
                () = late => Event::Late,
            };
            if let Err(status) = self.handle(event) {
                self.is_over = true;
                return Some(Err(status));
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Status> {
        let heard = match event {
            Event::Woken => return Ok(()),
            Event::Late if self.place.has_begun() => {
                return Err(Status::deadline_exceeded("a response was not answered in time"));
            }
            Event::Late => return Err(Status::deadline_exceeded("nothing was asked in time")),
            Event::Heard(heard) => *heard,
        };
        // An error: it is gone, or sends what is no request, or too long for one.
        let Some(request) = heard? else {
            self.is_over = true;
            return Ok(());
        };
        self.last = Instant::now();
        self.place.hear(&request).map_err(|refusal| match refusal {
            Refusal::TooMany => Status::resource_exhausted(refusal.to_string()),
            Refusal::OtherNode => Status::permission_denied(refusal.to_string()),
            Refusal::TooLong(_) => Status::invalid_argument(refusal.to_string()),
        })
    }

    /// When the node has to have said something.
    fn deadline(&self) -> Option<Instant> {
        if !self.place.has_begun() {
            return Some(self.last + BEGIN);
        }
        self.place.awaits_answer().then(|| self.last + ANSWER)
    }

    fn sending(&mut self, is_sending: bool) {
        if self.is_sending != is_sending {
            self.is_sending = is_sending;
            self.stream.activity().sending(is_sending);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sending(false);
    }
}

/// How long a stream may be open before it asks for anything.
const BEGIN: Duration = Duration::from_secs(10);
/// How long a node may take for an answer to a response: it reads it, and puts all that it says in force before.
const ANSWER: Duration = Duration::from_secs(120);
