//! One round: the victim's load beside a neighbour that changes, and beside the same neighbour in quiet; all subjects piece by piece,
//! there and back.
//!
//! The neighbour asks for a route of its own all the time, in quiet as well, so that its requests are no part of what changes cost.

use std::{thread, time::Duration};

use super::{ASKED, CHANGE, CHANGES, CONNECTIONS, QUIET, RATE, VICTIM, rounds, span::Span};
use crate::{
    Run,
    error::BenchError,
    lab::{LOAD_CPU, backends::SMALL, procfs},
    load::{Exchange, LoadReport, LoadSpec, Manner},
    outcome::{Sample, median, percentile},
    role::{self, WitnessSpec, Witnessed},
    scenario::{Plan, pieces::Pieces},
    subject::{Following, Kind, MARKED, Side},
};

/// A subject's turn; the second time for the A/A ratio.
#[derive(Default)]
struct Turn {
    /// Which of the subjects.
    subject: usize,
    churns: bool,
    again: bool,
    victim: Pieces,
    /// Of each piece: CPU time of the proxy and changes, a second of each; bytes of a change.
    cpu: Vec<f64>,
    changes: Vec<f64>,
    bytes: Vec<f64>,
    /// How long changes took until they were obeyed, in microseconds; of all pieces.
    took_us: Vec<f64>,
    wrong: u64,
    first_wrong: Option<String>,
}

/// Measures it; the samples of one round.
pub(super) fn round(
    round: usize,
    subjects: &mut [Following],
    plan: Plan,
    run: &Run,
) -> Result<Vec<Sample>, BenchError> {
    let times = Times::of(plan);
    let mut turns = turns(round, subjects);
    for slice in 0..times.slices {
        let mut order: Vec<usize> = (0..turns.len()).collect();
        if slice % 2 == 1 {
            order.reverse();
        }
        for index in order {
            run.check_interrupt()?;
            let turn = &mut turns[index];
            let piece = undisturbed(&mut subjects[turn.subject], turn.churns, times)?;
            turn.add(piece);
        }
    }
    let victims = turns.iter().map(|turn| turn.victim(round, &subjects[turn.subject]));
    let mut samples = victims.collect::<Result<Vec<_>, _>>()?;
    for turn in turns.iter().filter(|turn| turn.churns) {
        samples.push(turn.change(round, subjects[turn.subject].kind, quiet_beside(&turns, turn)));
    }
    Ok(samples)
}

/// The CPU time in a second of the quiet that a turn is compared with, in microseconds.
fn quiet_beside(turns: &[Turn], turn: &Turn) -> f64 {
    let is_it = |other: &&Turn| !other.churns && (other.subject, other.again) == (turn.subject, turn.again);
    turns.iter().find(is_it).map_or(0.0, |quiet| median(&quiet.cpu))
}

/// Another one begins in each round. Whoever churns comes beside the quiet that it is compared with.
fn turns(round: usize, subjects: &[Following]) -> Vec<Turn> {
    let pair =
        |subject, again| [true, false].map(|churns| Turn { subject, churns, again, ..Turn::default() });
    let once = (0..subjects.len()).flat_map(|subject| pair(subject, false));
    let twice = (0..subjects.len()).filter(|subject| subjects[*subject].kind.is_canopy());
    let mut turns: Vec<Turn> = once.chain(twice.flat_map(|subject| pair(subject, true))).collect();
    let first = round % turns.len().max(1);
    turns.rotate_left(first);
    turns
}

#[derive(Clone, Copy)]
struct Times {
    slices: u64,
    warm_up_ms: u64,
    measure_ms: u64,
}

impl Times {
    fn of(plan: Plan) -> Self {
        match plan.quick {
            true => Self { slices: 1, warm_up_ms: 400, measure_ms: 1_000 },
            false => Self { slices: 5, warm_up_ms: 400, measure_ms: 2_000 },
        }
    }

    /// How long changes are made that count: from when the load has begun to when it is about to end.
    fn span_ms(self) -> u64 {
        self.warm_up_ms + self.measure_ms - LEAD_MS
    }
}

struct Piece {
    victim: LoadReport,
    span: Span,
    witnessed: Witnessed,
}

/// Measured again if a hypervisor took the CPUs away meanwhile. A piece with errors is never set aside.
fn undisturbed(subject: &mut Following, churns: bool, times: Times) -> Result<Piece, BenchError> {
    let errors = |piece: &Piece| piece.victim.errors + piece.witnessed.wrong;
    let (mut piece, repeated) = rounds::undisturbed(|| load(subject, churns, times), errors)?;
    piece.victim.repeated = repeated;
    Ok(piece)
}

fn load(subject: &mut Following, churns: bool, times: Times) -> Result<Piece, BenchError> {
    let (before, refusals) = (subject.carried()?, subject.refusals());
    let lasts_ms = LEAD_MS + times.span_ms() + LATEST_MS;
    let witness = WitnessSpec {
        cpu: LOAD_CPU,
        target: subject.target(Side::Aggressor),
        number: MARKED,
        per_second: ASKED,
        lasts_ms,
    };
    let witness = subject.client(Side::Aggressor).start(role::command("witness", &witness)?)?;
    let spec = victim_spec(subject, times);
    let victim = subject.client(Side::Victim).start(role::command("load", &spec)?)?;
    thread::sleep(Duration::from_millis(LEAD_MS));
    let span = Span::pass(subject, churns, times.span_ms())?;
    let victim = rounds::finish_load(victim, &spec)?;
    let witnessed = rounds::finish(witness, Duration::from_millis(lasts_ms) + rounds::GRACE)?;
    rounds::check_counted(subject.kind, ("requests", victim.exchanges_in_all), &victim, || {
        subject.carried().unwrap_or(0).saturating_sub(before)
    })?;
    let refused = subject.refusals() - refusals;
    check_refused(subject.kind, refused, span.broken)?;
    Ok(Piece { victim, span, witnessed })
}

fn victim_spec(subject: &Following, times: Times) -> LoadSpec {
    LoadSpec {
        cpu: LOAD_CPU,
        target: subject.target(Side::Victim),
        exchange: Exchange::Http1 { path: format!("/{SMALL}"), body: SMALL },
        connections: CONNECTIONS,
        rate: Some(RATE),
        warm_up_ms: times.warm_up_ms,
        measure_ms: times.measure_ms,
        watch: vec![subject.pid()],
        manner: Manner { favoured: true, ..Manner::default() },
    }
}

/// What is broken is refused, and nothing else is. Some that come while another one is answered are answered together.
fn check_refused(kind: Kind, refused: u64, broken: u64) -> Result<(), BenchError> {
    if refused <= broken && (refused > 0 || broken == 0) {
        return Ok(());
    }
    Err(BenchError::Refused { subject: kind.name().into(), refused, broken })
}

impl Turn {
    fn add(&mut self, piece: Piece) {
        let Piece { victim, span, witnessed } = piece;
        let seconds = span.elapsed_ns.max(1) as f64 / 1e9;
        self.cpu.push(span.cpu_ns as f64 / 1e3 / seconds);
        self.changes.push(span.changes as f64 / seconds);
        self.bytes.push(span.bytes as f64 / span.changes.max(1) as f64);
        let effective = span.effective(&witnessed);
        self.took_us.extend(effective.took_ns.iter().map(|took| *took as f64 / 1e3));
        self.wrong += witnessed.wrong + effective.never;
        let never = || format!("{} changes that no answer showed", effective.never);
        let problem = witnessed.first_wrong.or_else(|| (effective.never > 0).then(never));
        self.first_wrong = self.first_wrong.take().or(problem);
        self.victim.add(victim);
    }

    fn victim(&self, round: usize, subject: &Following) -> Result<Sample, BenchError> {
        let pid = subject.pid();
        let memory =
            procfs::memory(pid).map_err(|e| BenchError::io(format!("read the memory of {pid}"), e))?;
        let pieces = &self.victim;
        Ok(Sample {
            case: VICTIM.into(),
            subject: format!("{}{}", subject.kind.name(), if self.churns { "" } else { QUIET }),
            round,
            again: self.again,
            rps: pieces.median(LoadReport::per_second),
            p50_us: pieces.median(|piece| piece.p50_ns as f64 / 1e3),
            p99_us: pieces.median(|piece| piece.p99_ns as f64 / 1e3),
            rate_per_second: RATE,
            cpu_us_per_request: median(&self.cpu) / (RATE + ASKED as f64),
            proxy_busy: median(&self.cpu) / 1e6,
            load_cpu_us_per_request: pieces.median(LoadReport::own_cpu_us),
            rss_bytes: memory.rss as f64,
            pss_bytes: memory.pss as f64,
            errors: pieces.errors(),
            first_error: pieces.first_error(),
            repeated: pieces.repeated(),
            ..Sample::default()
        })
    }

    /// The changes' own figures. `quiet` is the proxy's CPU time in a second without any, in microseconds.
    fn change(&self, round: usize, kind: Kind, quiet: f64) -> Sample {
        let changes = median(&self.changes);
        Sample {
            case: CHANGE.into(),
            subject: kind.name().into(),
            round,
            again: self.again,
            rps: changes,
            p50_us: percentile(&self.took_us, 0.5),
            p99_us: percentile(&self.took_us, 0.99),
            rate_per_second: CHANGES as f64,
            cpu_us_per_request: each(median(&self.cpu) - quiet, changes),
            bytes_each: median(&self.bytes),
            errors: self.wrong,
            first_error: self.first_wrong.clone(),
            ..Sample::default()
        }
    }
}

/// What a change cost. Where it is less than what can be told from quiet, it is as little as is told at all: no figure may vanish.
fn each(more: f64, changes: f64) -> f64 {
    (more / changes.max(1.0)).max(LEAST_US)
}

/// How long the load has to begin before changes do.
const LEAD_MS: u64 = 150;
/// How long the last change that counts may take to be seen.
const LATEST_MS: u64 = 500;
const LEAST_US: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(cpu_ns: u64, changes: u64, wrong: u64) -> Piece {
        let span =
            Span { elapsed_ns: 2_000_000_000, cpu_ns, bytes: 1_000 * changes, changes, ..Span::default() };
        let witnessed = Witnessed { wrong, ..Witnessed::default() };
        Piece { victim: LoadReport::default(), span, witnessed }
    }

    #[test]
    fn a_turn_s_figures_are_a_second_s_and_errors_are_summed() {
        let mut turn = Turn::default();
        for (cpu_ns, wrong) in [(100_000_000, 0), (900_000_000, 2), (110_000_000, 1)] {
            turn.add(piece(cpu_ns, 200, wrong));
        }
        assert_eq!((median(&turn.cpu), median(&turn.changes)), (55_000.0, 100.0));
        assert_eq!((median(&turn.bytes), turn.wrong), (1_000.0, 3));
    }

    #[test]
    fn a_change_costs_what_churn_took_more_than_the_quiet_beside_it() {
        let turn = |subject, churns, again, cpu| {
            let (cpu, changes) = (vec![cpu], vec![100.0]);
            Turn { subject, churns, again, cpu, changes, ..Turn::default() }
        };
        let turns = [
            turn(1, false, false, 10.0),
            turn(0, false, true, 54_000.0),
            turn(0, true, true, 55_000.0),
            turn(0, false, false, 50_000.0),
            turn(0, true, false, 55_000.0),
        ];
        let cost = |turn: &Turn| {
            turn.change(0, Kind::CanopyFollowing, quiet_beside(&turns, turn)).cpu_us_per_request
        };
        assert_eq!([cost(&turns[4]), cost(&turns[2])], [50.0, 10.0]);
        assert_eq!(each(-3.0, 100.0), LEAST_US);
    }

    #[test]
    fn a_subject_that_refuses_nothing_or_more_than_is_broken_is_void() {
        let check = |refused, broken| check_refused(Kind::CanopyFollowing, refused, broken).is_ok();
        assert_eq!([check(0, 0), check(3, 4), check(4, 4)], [true; 3]);
        assert_eq!([check(0, 4), check(5, 4), check(1, 0)], [false; 3]);
    }

    #[test]
    fn changes_are_made_in_all_of_the_time_that_is_counted() {
        for quick in [false, true] {
            let times = Times::of(Plan::new(quick, None));
            assert!(times.warm_up_ms > LEAD_MS);
            assert_eq!(LEAD_MS + times.span_ms(), times.warm_up_ms + times.measure_ms);
        }
    }
}
