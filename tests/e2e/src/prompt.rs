//! How soon what a configuration forbids is over, counted from when it was compiled: by what the promise of 100 ms is judged.
//!
//! The daemon's log says when that was, before any cell is told of it, so that nothing a cell does is left out. Whoever counts
//! from when the cells have answered must not say that he has seen the promise kept: they may have ended all by then.

use std::{
    io::{ErrorKind, Read},
    net::TcpStream,
    thread,
    time::{Duration, SystemTime},
};

use testkit::{Daemon, KitError, eventually};
use tokio::time::Instant;

/// What is promised.
pub const PROMISED: Duration = Duration::from_millis(100);

/// A busy machine is late for reasons of its own, so not every try has to keep the promise; what looks only now and then keeps it
/// now and then, so nearly all have to. Two cores that had several builds to do besides took 25 ms at most in 120 tries.
const ENOUGH: usize = 5;
/// No try may take longer, however busy the machine: that would be a promise forgotten.
const LATEST: Duration = Duration::from_secs(10);
/// Tries in all.
const TRIES: usize = 7;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The end of a stream that was forbidden.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// How long after the configuration was compiled.
    pub after: Duration,
    /// Whether it was a reset, and so cannot be taken for the end of what was said.
    pub is_reset: bool,
}

/// Tries until the promise was kept often enough, each time by everything that ended in that try; the longest of each.
///
/// # Errors
/// A try fails, or too few have kept it: then what was the longest in each.
pub fn kept(what: &str, mut ends: impl FnMut() -> Fallible<Vec<Duration>>) -> Fallible<Vec<Duration>> {
    let mut longest = Vec::new();
    let enough = |longest: &[Duration]| longest.iter().filter(|took| **took <= PROMISED).count() >= ENOUGH;
    while longest.len() < TRIES && !enough(&longest) {
        let took = ends().map_err(|error| format!("{what}: {error}"))?.into_iter().max().unwrap_or_default();
        if took > LATEST {
            return Err(format!("{what}: {took:?} in one try, after {longest:?}").into());
        }
        longest.push(took);
    }
    if enough(&longest) {
        Ok(longest)
    } else {
        Err(format!("{what}: {longest:?}, each try's longest").into())
    }
}

/// Makes an edit, and says how each of these streams ended by it. The configuration before it must have been taken up.
///
/// # Errors
/// The edit fails or is not compiled, or a stream goes on, or ended before the edit was compiled.
pub fn ends(
    daemon: &Daemon,
    streams: &mut [&mut TcpStream],
    edit: impl FnOnce() -> Result<(), KitError>,
) -> Fallible<Vec<End>> {
    let before = compiled(daemon).len();
    let ends = thread::scope(|scope| {
        let readers: Vec<_> =
            streams.iter_mut().map(|stream| scope.spawn(move || end_of_stream(stream))).collect();
        edit()?;
        let ended = readers.into_iter().map(|reader| reader.join().map_err(|_| "it panicked")?);
        ended.collect::<Fallible<Vec<_>>>()
    })?;
    eventually("the log says that it is compiled", || compiled(daemon).len() > before)?;
    let (told, version) = compiled(daemon)[before];
    // Whoever makes the next edit finds this one in force.
    let in_force = || daemon.metric("canopy_configuration_version", &[]).is_ok_and(|now| now >= version);
    eventually("it is in force", in_force)?;
    let from_then = |(at, is_reset)| {
        // Were it said after a cell is told, this could be nothing whatever the cell did.
        let after = after(told, at).ok_or("it ended before the configuration was compiled")?;
        Ok(End { after, is_reset })
    };
    ends.into_iter().map(from_then).collect()
}

/// When a stream ends, as the time of day, and whether it is reset.
fn end_of_stream(stream: &mut TcpStream) -> Fallible<(Duration, bool)> {
    let mut bytes = [0; 4096];
    let begun = Instant::now();
    let is_reset = loop {
        if begun.elapsed() > PATIENCE {
            return Err("it goes on".into());
        }
        match stream.read(&mut bytes) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err("it goes on".into()),
            Err(error) => return Err(error.into()),
        }
    };
    Ok((now()?, is_reset))
}

/// How long after one time of day the other was, be it of the next day; nothing where it was before.
fn after(earlier: Duration, later: Duration) -> Option<Duration> {
    let took = (later + DAY).checked_sub(earlier)?;
    Some(took.checked_sub(DAY).unwrap_or(took)).filter(|took| *took < DAY / 2)
}

/// The time of day.
fn now() -> Fallible<Duration> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(since - DAY * u32::try_from(since.as_secs() / DAY.as_secs())?)
}

/// When each configuration of a daemon was compiled and no cell told of it yet: the time of day in the lines of its log; and
/// its version.
fn compiled(daemon: &Daemon) -> Vec<(Duration, f64)> {
    let output = daemon.output();
    let lines = output.lines().filter(|line| line.contains("configuration compiled"));
    lines.filter_map(|line| Some((time_of_day(line.split_once('T')?.1)?, version(line)?))).collect()
}

fn version(line: &str) -> Option<f64> {
    line.split_once("version=")?.1.split(' ').next()?.parse().ok()
}

/// `HH:MM:SS.ffffffZ`.
fn time_of_day(text: &str) -> Option<Duration> {
    let mut parts = text.split_once('Z')?.0.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(Duration::from_secs_f64((hours * 60.0 + minutes) * 60.0 + seconds))
}

/// A stream that is not ended is seen, also one that is never silent.
const PATIENCE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries of which each had these ends, in milliseconds; how many were made, and whether that was enough.
    fn tried(tries: &[&[u64]]) -> (usize, Fallible<Vec<Duration>>) {
        let (mut made, mut left) = (0, tries.iter());
        let result = kept("it", || {
            made += 1;
            let ends = left.next().ok_or("there was no further try")?;
            Ok(ends.iter().map(|millis| Duration::from_millis(*millis)).collect())
        });
        (made, result)
    }

    #[test]
    fn a_promise_is_kept_by_five_tries_and_not_by_four_of_seven() {
        let (slow, fast): (&[u64], &[u64]) = (&[101], &[100]);
        let (made, longest) = tried(&[slow, fast, fast, fast, fast, fast, fast]);
        assert_eq!((made, longest.unwrap().len()), (6, 6), "and no more are made");
        let (made, longest) = tried(&[&[slow; 2][..], &[fast; 5]].concat());
        assert_eq!((made, longest.unwrap().len()), (7, 7), "late, but often enough");
        let (made, refused) = tried(&[&[slow; 3][..], &[fast; 5]].concat());
        assert_eq!(made, 7);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("it: ") && refused.matches("101ms").count() == 3, "{refused}");
    }

    #[test]
    fn one_try_that_takes_ever_so_long_breaks_it_whatever_the_others_took() {
        let (made, broken) = tried(&[&[100], &[10_001], &[100], &[100], &[100], &[100]]);
        assert!(made == 2 && broken.is_err());
    }

    #[test]
    fn a_try_is_as_long_as_the_last_of_its_ends() {
        let (made, longest) = tried(
            &[[&[3, 101, 5][..]; 2], [&[3, 100, 5][..]; 2], [&[3, 100, 5][..]; 2], [&[3, 100, 5][..]; 2]]
                .concat(),
        );
        assert_eq!((made, longest.unwrap()[0]), (7, Duration::from_millis(101)));
    }

    #[test]
    fn a_try_that_fails_is_a_failure_whatever_was_kept() {
        let (made, failed) = tried(&[&[1][..]; 4]);
        assert_eq!((made, failed.unwrap_err().to_string().as_str()), (5, "it: there was no further try"));
    }
}
