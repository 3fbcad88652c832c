//! A control plane of another make: Envoy's go-control-plane, in the program of `tests/control-plane` that
//! `scripts/control-plane` builds. It serves any resources over xDS, as deltas and as the state of the world, and
//! does the protocol by itself; here is what tells it what to serve and when to misbehave, and what it says of its clients.
//!
//! Nothing of Canopy is in it: resources are bytes under a type and a name.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

pub use self::{
    change::Change,
    event::{Closed, Event, Opened, Request, Response, Step, Totals},
};
use crate::{KitError, Netns, Process};

mod change;
mod event;

/// A running control plane. Dropping it ends it, with all its connections.
#[derive(Debug)]
pub struct ControlPlane {
    process: Process,
    input: ChildStdin,
    address: String,
    /// How much of its output has been read, and the line that is not whole yet.
    read: (u64, Vec<u8>),
    events: Vec<Event>,
    /// How many of them are past.
    past: usize,
    commands: u64,
}

impl ControlPlane {
    /// Starts it in `netns`, in plaintext and with nothing to serve; it listens when this returns. `listen` is `IP:PORT` (0 is
    /// any port) or `unix:PATH`, and `tools` the folder that it is built into (`target/tools`).
    ///
    /// # Errors
    /// It is not built, or cannot listen there.
    pub fn start(netns: &Netns, tools: &Path, listen: &str) -> Result<Self, KitError> {
        Self::start_with(netns, tools, listen, &[])
    }

    /// As [`ControlPlane::start`], with further arguments: `-certificate FILE -key FILE -client-roots FILE`, and `-stopped` for
    /// one that listens only when told to.
    ///
    /// # Errors
    /// As theirs.
    pub fn start_with(
        netns: &Netns,
        tools: &Path,
        listen: &str,
        arguments: &[&str],
    ) -> Result<Self, KitError> {
        let mut command = Command::new(program(tools)?);
        command.args(["-listen", listen]).args(arguments);
        let (process, input) = Process::start_told(netns, command)?;
        let mut started = Self {
            process,
            input,
            address: listen.to_owned(),
            read: (0, Vec::new()),
            events: Vec::new(),
            past: 0,
            commands: 0,
        };
        if !arguments.contains(&"-stopped") {
            started.listens()?;
        }
        Ok(started)
    }

    /// Where it listens, or has listened: `IP:PORT` or `unix:PATH`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process, to freeze it or to see what it has printed.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Serves changes from now on: those of one type as one change, with one version, the types in the order in which they are
    /// first named. What was told before is past ([`ControlPlane::mark`]).
    ///
    /// # Errors
    /// One of them cannot be served, or the program has ended.
    pub fn change(&mut self, changes: &[Change]) -> Result<(), KitError> {
        self.mark();
        let changes: Vec<&Value> = changes.iter().map(Change::told).collect();
        self.tell("batch", &json!({"changes": changes})).map(drop)
    }

    /// Lets each response wait for so long from now on.
    ///
    /// # Errors
    /// The program has ended.
    pub fn delay(&mut self, delay: Duration) -> Result<(), KitError> {
        self.tell("delay", &json!({"milliseconds": millis(delay)})).map(drop)
    }

    /// Brings at most so many resources in a response from now on, and the rest in further ones; 0 is all at once.
    ///
    /// # Errors
    /// The program has ended.
    pub fn page(&mut self, count: usize) -> Result<(), KitError> {
        self.tell("page", &json!({"count": count})).map(drop)
    }

    /// Takes no request of more bytes, from the next [`ControlPlane::listen`] on.
    ///
    /// # Errors
    /// The program has ended.
    pub fn receive(&mut self, bytes: usize) -> Result<(), KitError> {
        self.tell("receive", &json!({"count": bytes})).map(drop)
    }

    /// Ends all streams with UNAVAILABLE; the connections stay.
    ///
    /// # Errors
    /// The program has ended.
    pub fn drop_streams(&mut self) -> Result<(), KitError> {
        self.tell("drop", &json!({"message": "dropped"})).map(drop)
    }

    /// Ends every stream as soon as it is opened, with this code of gRPC; with 0 no more.
    ///
    /// # Errors
    /// The program has ended.
    pub fn refuse(&mut self, code: u32, message: &str) -> Result<(), KitError> {
        self.tell("refuse", &json!({"code": code, "message": message})).map(drop)
    }

    /// Answers nothing to what is asked about these types from now on, and about no others: as one that does not know them.
    ///
    /// # Errors
    /// The program has ended.
    pub fn ignore(&mut self, types: &[&str]) -> Result<(), KitError> {
        self.tell("ignore", &json!({"types": types})).map(drop)
    }

    /// Closes the listener and all connections. What is served is kept.
    ///
    /// # Errors
    /// The program has ended.
    pub fn stop(&mut self) -> Result<(), KitError> {
        self.tell("stop", &json!({})).map(drop)
    }

    /// Listens again, at the same port.
    ///
    /// # Errors
    /// The port has been taken, or the program has ended.
    pub fn listen(&mut self) -> Result<(), KitError> {
        self.tell("start", &json!({})).map(drop)?;
        self.listens()
    }

    /// What went over all streams since it was started.
    ///
    /// # Errors
    /// The program has ended.
    pub fn totals(&mut self) -> Result<Totals, KitError> {
        self.tell("totals", &json!({})).map(|answer| Totals::of(&answer["totals"]))
    }

    /// What it has told so far is past from now on.
    pub fn mark(&mut self) {
        self.take_in();
        self.past = self.events.len();
    }

    /// What it has told since the last [`ControlPlane::mark`].
    pub fn events(&mut self) -> &[Event] {
        self.take_in();
        &self.events[self.past..]
    }

    /// What it has told since its start.
    pub fn all_events(&mut self) -> &[Event] {
        self.take_in();
        &self.events
    }

    /// Waits until `found` finds something in what was told since the last mark; at most a minute.
    ///
    /// # Errors
    /// It never did, or the program has ended; with the last that it told.
    pub fn wait<T>(
        &mut self,
        what: &str,
        mut found: impl FnMut(&[Event]) -> Option<T>,
    ) -> Result<T, KitError> {
        let until = Instant::now() + LIMIT;
        let mut ended = false;
        loop {
            self.take_in();
            if let Some(found) = found(&self.events[self.past..]) {
                return Ok(found);
            }
            if ended {
                let status = self.process.wait(Duration::ZERO).map(|status| status.to_string());
                return Err(KitError::EndedEarly {
                    what: format!("the control plane (while waiting for: {what})"),
                    status: status.unwrap_or_default(),
                    output: self.process.output(),
                });
            }
            if Instant::now() > until {
                let last = self.events.iter().skip(self.events.len().saturating_sub(20));
                let output = last.map(|event| format!("{event:?}\n")).collect();
                return Err(KitError::TimedOut {
                    what: format!("the control plane: {what}"),
                    limit: LIMIT,
                    output,
                });
            }
            thread::sleep(POLL);
            // What it has told before its end counts: it is read once more.
            ended = self.process.has_ended();
        }
    }

    /// Waits until a client has answered the first response since the last mark that says something of this resource (that it
    /// is so, or that it is gone): its answer.
    ///
    /// # Errors
    /// As [`ControlPlane::wait`].
    pub fn answer(&mut self, type_url: &str, name: &str) -> Result<Request, KitError> {
        self.wait(&format!("an answer about {name} of {type_url}"), |events| {
            let said = event::responses(events, type_url).find(|response| response.says(name))?;
            event::requests(events, type_url).find(|request| request.answers(said)).cloned()
        })
    }

    /// Changes resources and waits until a client has answered for each that it has it: what it does not take is an error.
    ///
    /// # Errors
    /// As [`ControlPlane::change`] and [`ControlPlane::wait`]; or a change is refused, with the client's reason.
    pub fn serve(&mut self, changes: &[Change]) -> Result<(), KitError> {
        self.change(changes)?;
        for change in changes {
            let answer = self.answer(change.type_url(), change.name())?;
            if let Some(reason) = answer.error {
                let command = format!("{} of {}", change.name(), change.type_url());
                return Err(KitError::Failed { command, status: "refused".into(), output: reason });
            }
        }
        Ok(())
    }

    fn listens(&mut self) -> Result<(), KitError> {
        self.address = self.wait("where it listens", |events| {
            events.iter().rev().find_map(|event| match event {
                Event::Listening { address } => Some(address.clone()),
                _ => None,
            })
        })?;
        Ok(())
    }

    /// One command, carried out when this returns.
    fn tell(&mut self, what: &str, fields: &Value) -> Result<Value, KitError> {
        self.commands += 1;
        let id = self.commands;
        let mut command = fields.clone();
        command["do"] = what.into();
        command["id"] = id.into();
        // One that has ended is found out below, with its last words.
        let _ = self.input.write_all(format!("{command}\n").as_bytes());
        let (from, past) = (self.events.len(), self.past);
        self.past = from;
        let answer = self.wait(what, |events| {
            events.iter().find_map(|event| match event {
                Event::Answer { id: its, value } if *its == id => Some(value.clone()),
                _ => None,
            })
        });
        self.past = past;
        let answer = answer?;
        match answer["error"].as_str() {
            None => Ok(answer),
            Some(error) => Err(KitError::Failed {
                command: what.to_owned(),
                status: "refused".into(),
                output: error.to_owned(),
            }),
        }
    }

    /// Reads what it has printed since the last time. Lines that are no events are of a crash, and for its output.
    fn take_in(&mut self) {
        let (offset, part) = &mut self.read;
        let printed = self.process.output_from(*offset);
        *offset += printed.len() as u64;
        part.extend(printed);
        while let Some(end) = part.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = part.drain(..=end).collect();
            self.events.extend(serde_json::from_slice(&line).ok().and_then(|value| Event::of(&value)));
        }
    }
}

fn program(tools: &Path) -> Result<PathBuf, KitError> {
    let path = tools.join("control-plane");
    if path.is_file() {
        return Ok(path);
    }
    Err(KitError::MissingProgram {
        program: "control-plane".to_owned(),
        remedy: "build it with `scripts/control-plane`".to_owned(),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);
