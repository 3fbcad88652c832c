//! One case in one round: the victim's load, beside its neighbour's or alone, and the neighbour's alone; all subjects
//! piece by piece, there and back.
//!
//! The neighbour's load begins before the victim's is counted and ends after it, so that no request of the victim's is
//! counted that had the proxy for itself.

use super::{Aggressor, CONNECTIONS, Case, RATE, UNSERVED_MS, rounds};
use crate::{
    Run,
    error::BenchError,
    lab::{
        LOAD_CPU,
        backends::{Port, SMALL},
        procfs,
    },
    load::{Exchange, LoadReport, LoadSpec, Manner},
    outcome::Sample,
    role,
    scenario::{Plan, pieces::Pieces},
    subject::{Shared, Side},
};

/// Where in the run.
pub(super) struct At<'a> {
    pub round: usize,
    pub case: &'a Case,
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The victim, and its neighbour if the case has one.
    Both,
    /// The neighbour by itself.
    Alone,
}

/// One subject's turn; the second time for the A/A ratio.
struct Turn<'a> {
    subject: &'a Shared,
    who: Who,
    again: bool,
    victim: Pieces,
    aggressor: Pieces,
    /// CPU time of the proxy per request of either, and the share of its CPU.
    cpu_us: Vec<f64>,
    busy: Vec<f64>,
}

/// Measures it; the samples of one case in one round.
pub(super) fn case(
    at: &At<'_>,
    subjects: &[Shared],
    plan: Plan,
    run: &Run,
) -> Result<Vec<Sample>, BenchError> {
    let times = Times::of(plan);
    let mut turns = turns(at, subjects);
    for slice in 0..times.slices {
        let mut order: Vec<usize> = (0..turns.len()).collect();
        if slice % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let turn = &mut turns[index];
            // What the neighbour does alone is no victim's figure: half as long will do.
            if turn.who == Who::Alone && slice % 2 == 1 {
                continue;
            }
            run.check_interrupt()?;
            let piece = undisturbed(at.case, turn, times)?;
            turn.add(piece);
        }
    }
    turns.iter().map(|turn| turn.samples(at)).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
}

/// Another subject begins in each round.
fn turns<'a>(at: &At<'_>, subjects: &'a [Shared]) -> Vec<Turn<'a>> {
    let turn = |subject, who, again| Turn {
        subject,
        who,
        again,
        victim: Pieces::default(),
        aggressor: Pieces::default(),
        cpu_us: Vec::new(),
        busy: Vec::new(),
    };
    let mut turns: Vec<Turn<'a>> = subjects.iter().map(|subject| turn(subject, Who::Both, false)).collect();
    let canopy = subjects.iter().filter(|subject| subject.kind.is_canopy());
    turns.extend(canopy.map(|subject| turn(subject, Who::Both, true)));
    if at.case.aggressor.is_some() {
        turns.extend(subjects.iter().map(|subject| turn(subject, Who::Alone, false)));
    }
    let first = at.round % turns.len().max(1);
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
            true => Self { slices: 1, warm_up_ms: 200, measure_ms: 400 },
            false => Self { slices: 3, warm_up_ms: 200, measure_ms: 1_500 },
        }
    }
}

struct Piece {
    victim: Option<LoadReport>,
    aggressor: Option<LoadReport>,
}

/// Measured again if a hypervisor took the CPUs away meanwhile. A piece with errors is never set aside.
fn undisturbed(case: &Case, turn: &Turn<'_>, times: Times) -> Result<Piece, BenchError> {
    let errors = |piece: &Piece| piece.reports().map(|report| report.errors).sum();
    let (mut piece, repeated) = rounds::undisturbed(|| load(case, turn, times), errors)?;
    piece.victim.iter_mut().chain(&mut piece.aggressor).for_each(|report| report.repeated = repeated);
    Ok(piece)
}

fn load(case: &Case, turn: &Turn<'_>, times: Times) -> Result<Piece, BenchError> {
    let subject = turn.subject;
    let before = subject.carried()?;
    let aggressor = case.aggressor.as_ref().map(|load| aggressor_spec(load, subject, times));
    let started = aggressor.map(|spec| {
        let process = subject.client(Side::Aggressor).start(role::command("load", &spec)?)?;
        Ok::<_, BenchError>((process, spec))
    });
    let started = started.transpose()?;
    let victim = if turn.who == Who::Both {
        let spec = victim_spec(subject, times);
        let process = subject.client(Side::Victim).start(role::command("load", &spec)?)?;
        Some(rounds::finish_load(process, &spec)?)
    } else {
        None
    };
    let aggressor = started.map(|(process, spec)| rounds::finish_load(process, &spec)).transpose()?;
    check_carried(subject, before, victim.as_ref())?;
    Ok(Piece { victim, aggressor })
}

fn victim_spec(subject: &Shared, times: Times) -> LoadSpec {
    LoadSpec {
        cpu: LOAD_CPU,
        target: subject.target(Side::Victim, Port::Http),
        exchange: Exchange::Http1 { path: format!("/{SMALL}"), body: SMALL },
        connections: CONNECTIONS,
        rate: Some(RATE),
        warm_up_ms: times.warm_up_ms,
        measure_ms: times.measure_ms,
        watch: subject.pids(),
        manner: Manner { unserved_ms: Some(UNSERVED_MS), favoured: true, ..Manner::default() },
    }
}

fn aggressor_spec(load: &Aggressor, subject: &Shared, times: Times) -> LoadSpec {
    LoadSpec {
        cpu: LOAD_CPU,
        target: subject.target(Side::Aggressor, load.port),
        exchange: load.exchange.clone(),
        connections: load.connections,
        rate: None,
        warm_up_ms: times.warm_up_ms,
        measure_ms: times.measure_ms + LONGER_MS,
        watch: subject.pids(),
        manner: Manner::default(),
    }
}

/// What the proxy counts must grow by what the victim sent; its counters may be published with some delay.
fn check_carried(subject: &Shared, before: u64, victim: Option<&LoadReport>) -> Result<(), BenchError> {
    let Some(report) = victim else { return Ok(()) };
    rounds::check_counted(subject.kind, ("requests", report.exchanges_in_all), report, || {
        subject.carried().unwrap_or(0).saturating_sub(before)
    })
}

impl Piece {
    fn reports(&self) -> impl Iterator<Item = &LoadReport> {
        self.victim.iter().chain(&self.aggressor)
    }
}

impl Turn<'_> {
    fn add(&mut self, piece: Piece) {
        // The neighbour is watched for longer than the victim is: where there is one, its time is taken.
        let watch = piece.aggressor.as_ref().or(piece.victim.as_ref());
        if let Some(watch) = watch {
            let seconds = watch.elapsed_ns as f64 / 1e9;
            let requests: f64 = piece.reports().map(LoadReport::per_second).sum::<f64>() * seconds;
            self.cpu_us.push(watch.watched_cpu_ns as f64 / 1e3 / requests.max(1.0));
            self.busy.push(watch.watched_cpu_ns as f64 / watch.elapsed_ns.max(1) as f64);
        }
        piece.victim.into_iter().for_each(|report| self.victim.add(report));
        piece.aggressor.into_iter().for_each(|report| self.aggressor.add(report));
    }

    fn samples(&self, at: &At<'_>) -> Result<Vec<Sample>, BenchError> {
        let memory = procfs::memory_of(&self.subject.pids())?;
        let name = self.subject.kind.name();
        let sample = |subject: String, pieces: &Pieces| Sample {
            case: at.case.name.to_owned(),
            subject,
            round: at.round,
            again: self.again,
            rps: pieces.median(LoadReport::per_second),
            cpu_us_per_request: crate::outcome::median(&self.cpu_us),
            proxy_busy: crate::outcome::median(&self.busy),
            load_cpu_us_per_request: pieces.median(LoadReport::own_cpu_us),
            rss_bytes: memory.rss as f64,
            pss_bytes: memory.pss as f64,
            errors: pieces.errors(),
            unserved: pieces.unserved(),
            first_error: pieces.first_error(),
            repeated: pieces.repeated(),
            ..Sample::default()
        };
        let (p50, p99) = (|p: &LoadReport| p.p50_ns as f64 / 1e3, |p: &LoadReport| p.p99_ns as f64 / 1e3);
        let victim = (self.who == Who::Both).then(|| Sample {
            p50_us: self.victim.median(p50),
            p99_us: self.victim.median(p99),
            rate_per_second: RATE,
            ..sample(name.to_owned(), &self.victim)
        });
        let suffix = if self.who == Who::Both { "-aggressor" } else { "-alone-aggressor" };
        let aggressor = at.case.aggressor.is_some().then(|| Sample {
            p50_closed_us: self.aggressor.median(p50),
            p99_closed_us: self.aggressor.median(p99),
            ..sample(format!("{name}{suffix}"), &self.aggressor)
        });
        Ok(victim.into_iter().chain(aggressor).collect())
    }
}

/// How much longer the neighbour's load lasts than the victim's, whose generator is started a moment later.
const LONGER_MS: u64 = 200;
