//! One stream on its connection: what the node says, one by one, and what it is sent, when it takes it.
//!
//! What is to be sent is made when the connection asks for it, and it asks when what was sent before is on its way: nothing is made
//! for a node that does not read.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tonic::{Status, Streaming};

use super::{
    super::protocol::{Request, Response},
    activity::{Activity, OpenStream},
    awaited::Awaited,
    stream::{Next, Refusal},
    streams::Place,
};

/// A stream.
#[derive(Debug)]
pub(super) struct Session {
    place: Place,
    requests: Streaming<Request>,
    stream: OpenStream,
    began: Instant,
    awaited: Awaited,
    /// Changes when the server ends.
    ends: watch::Receiver<bool>,
    /// Whether a response was given to the connection, and not asked for another since.
    is_sending: bool,
    is_over: bool,
}

/// What wakes a session.
enum Event {
    Heard(Box<Result<Option<Request>, Status>>),
    Woken,
    Late,
    Ending,
}

impl Session {
    /// The stream that asks by `requests`, until `ends` says that it is over.
    pub(super) fn new(
        place: Place,
        requests: Streaming<Request>,
        activity: Arc<Activity>,
        ends: watch::Receiver<bool>,
    ) -> Self {
        let (stream, began, awaited) = (OpenStream::new(activity), Instant::now(), Awaited::default());
        Self { place, requests, stream, began, awaited, ends, is_sending: false, is_over: false }
    }

    /// The next response; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Result<Response, Status>> {
        self.sending(false);
        loop {
            if self.is_over || *self.ends.borrow() {
                return None;
            }
            match self.place.next() {
                Next::Send(kind, response) => {
                    if let Some(kind) = kind {
                        self.awaited.sent(kind, Instant::now());
                    }
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
                _ = self.ends.changed() => Event::Ending,
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
            // Without an error: who hears that comes again at once, and finds another server or this one's successor.
            Event::Ending => {
                self.is_over = true;
                return Ok(());
            }
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
        self.place.hear(&request).map_err(|refusal| match refusal {
            Refusal::TooMany => Status::resource_exhausted(refusal.to_string()),
            Refusal::OtherNode => Status::permission_denied(refusal.to_string()),
            Refusal::TooLong(_) => Status::invalid_argument(refusal.to_string()),
        })?;
        self.awaited.heard(|kind| self.place.awaits_answer(kind), Instant::now());
        Ok(())
    }

    /// When the node has to have said something.
    fn deadline(&self) -> Option<Instant> {
        if self.place.has_begun() { self.awaited.deadline() } else { Some(self.began + BEGIN) }
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
