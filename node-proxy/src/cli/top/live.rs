//! The terminal of `canopy top`: taken, drawn, and given back, however it ends.

use std::{
    error::Error,
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use super::{
    Reader,
    screen::{State, Wish},
};
use crate::forest::costs::NodeCosts;

/// How soon a signal is heeded.
const SLICE: Duration = Duration::from_millis(200);

/// The terminal, which is as it was when this is dropped. A panic restores it, too.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self).inspect_err(|_| ratatui::restore())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows readings until somebody has seen enough. Where the daemon is gone, that is the error.
pub(super) fn run(
    reader: &mut Reader,
    mut state: State,
    first: NodeCosts,
    pause: Duration,
) -> Result<(), Box<dyn Error>> {
    let mut terminate = reader.runtime.block_on(async { signal(SignalKind::terminate()) })?;
    let mut screen = Screen::take()?;
    let mut costs = first;
    loop {
        let next = Instant::now() + pause;
        loop {
            screen.0.draw(|frame| state.draw(frame, &costs))?;
            match wish(&mut state, next, || has_come(reader, &mut terminate))? {
                Wish::Quit => return Ok(()),
                Wish::Draw => {}
                Wish::Nothing => break,
            }
        }
        costs = reader.read()?;
    }
}

/// Waits for a key that means something, until it is time for the next reading.
fn wish(state: &mut State, until: Instant, mut is_over: impl FnMut() -> bool) -> io::Result<Wish> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Wish::Nothing);
        }
        if is_over() {
            return Ok(Wish::Quit);
        }
        if !event::poll(left.min(SLICE))? {
            continue;
        }
        let wish = match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => state.press(key),
            Event::Resize(..) => Wish::Draw,
            _ => Wish::Nothing,
        };
        if wish != Wish::Nothing {
            return Ok(wish);
        }
    }
}

/// Whether a signal has come.
fn has_come(reader: &Reader, signal: &mut Signal) -> bool {
    reader.runtime.block_on(async {
        // One turn of the event loop, in which the signal is heard.
        tokio::task::yield_now().await;
        let mut heard = pin!(signal.recv());
        poll_fn(|cx| Poll::Ready(heard.as_mut().poll(cx).is_ready())).await
    })
}
