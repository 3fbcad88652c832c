//! Interleaved rounds: every subject in every case, one after the other, so that what the machine does meanwhile
//! meets them alike.
//!
//! First all subjects in a closed loop, for throughput and CPU; then all at the same rate, half of what the slowest
//! of them did, for latency. A subject that did not carry what was sent ends the run.

use std::time::Duration;

use serde::de::DeserializeOwned;
use testkit::{Capture, Process};

use super::{Case, Group, Manner, Plan, Scenario, pieces::Pieces, wire};
use crate::{
    Run, clock,
    error::BenchError,
    lab::{LOAD_CPU, Nodes, PROXY_CPU, procfs},
    load::{LoadReport, LoadSpec},
    outcome::{Sample, Samples},
    role,
    subject::{Kind, Setting, Subject},
};

/// What a scenario of load yields.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub samples: Samples,
    pub wire: Vec<wire::WireCheck>,
}

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(scenario: &Scenario, plan: Plan, run: &Run) -> Result<Measured, BenchError> {
    let mut measured = Measured::default();
    for group in &scenario.groups {
        run_group(scenario, group, plan, run, &mut measured)?;
    }
    Ok(measured)
}

fn run_group(
    scenario: &Scenario,
    group: &Group,
    plan: Plan,
    run: &Run,
    measured: &mut Measured,
) -> Result<(), BenchError> {
    let setting = run.setting(&format!("{}/{}", scenario.name, group.name))?;
    let across = group.subjects.iter().any(|kind| kind.is_across());
    let nodes = if across { Nodes::two()? } else { Nodes::one()? };
    let mut subjects = Vec::new();
    for kind in &group.subjects {
        run.progress(&format!("{}: starting {} ({})", scenario.name, kind.name(), group.name));
        let capture = across.then(|| Capture::start(nodes.here())).transpose()?;
        let subject = Subject::start(*kind, &nodes, &setting)?;
        if let Some(capture) = capture {
            measured.wire.push(wire::check(&subject, nodes.here(), &capture.finish()?)?);
        }
        subjects.push(subject);
        run.check_interrupt()?;
    }
    let samples = &mut measured.samples;
    let sitting = Sitting { plan, run, setting: &setting };
    let mut rounds = Rounds { scenario, group, sitting, subjects: &subjects, samples };
    for round in 0..plan.rounds {
        for case in &group.cases {
            rounds.case(round, case)?;
        }
    }
    Ok(())
}

struct Rounds<'a> {
    scenario: &'a Scenario,
    group: &'a Group,
    sitting: Sitting<'a>,
    subjects: &'a [Subject],
    samples: &'a mut Samples,
}

impl Rounds<'_> {
    fn case(&mut self, round: usize, case: &Case) -> Result<(), BenchError> {
        let turns = turns(self.subjects, self.group, case, round);
        self.announce(round, case);
        let _awake = if case.manner == Manner::Awake { self.spinners()? } else { Vec::new() };
        self.samples.0.extend(self.sitting.measure(round, &turns)?);
        Ok(())
    }

    /// One process per CPU that takes what nobody else wants of it.
    fn spinners(&self) -> Result<Vec<Process>, BenchError> {
        let pod = self.subjects.first().map(|subject| &subject.client);
        pod.into_iter()
            .flat_map(|pod| [LOAD_CPU, PROXY_CPU].map(|cpu| Ok(pod.start(role::spinner(cpu)?)?)))
            .collect()
    }

    fn announce(&self, round: usize, case: &Case) {
        let plan = self.sitting.plan;
        let each = if case.rate.is_some() { plan.seconds_at_a_rate() } else { plan.seconds_each() };
        let left =
            (plan.rounds * self.scenario.measurements()).saturating_sub(self.samples.0.len()) as f64 * each;
        self.sitting.run.progress(&format!(
            "{}: round {} of {}, {}; about {left:.0} s left of this scenario",
            self.scenario.name,
            round + 1,
            plan.rounds,
            case.name,
        ));
    }
}

/// A subject's turn in a case in a round; the second time for the A/A ratio.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    pub subject: &'a Subject,
    pub case: &'a Case,
    pub again: bool,
}

/// What is measured together.
pub(super) struct Sitting<'a> {
    pub plan: Plan,
    pub run: &'a Run,
    pub setting: &'a Setting,
}

impl Sitting<'_> {
    /// All turns of a round, piece by piece: what the machine does meanwhile meets them alike, whatever their cases.
    pub(super) fn measure(&self, round: usize, turns: &[Turn<'_>]) -> Result<Vec<Sample>, BenchError> {
        if let Some(fixed) = turns.first().and_then(|turn| turn.case.rate) {
            return self.at_a_rate(round, turns, fixed);
        }
        let closed = self.in_slices(turns, |_| None, self.plan.closed_ms)?;
        let rate = |of: &Case| {
            let same = turns.iter().zip(&closed).filter(|(turn, _)| turn.case.name == of.name);
            let each = same.map(|(_, pieces)| pieces.median(LoadReport::per_second));
            (each.fold(f64::INFINITY, f64::min) * SHARE_OF_SLOWEST).max(1.0)
        };
        let open = self.in_slices(turns, |case| Some(rate(case)), self.plan.open_ms)?;
        let mut samples = Vec::new();
        for ((turn, closed), open) in turns.iter().zip(&closed).zip(open) {
            let mut sample = sample(round, turn, closed);
            sample.rate_per_second = rate(turn.case);
            self.add_open_loop(turn, &open, &mut sample)?;
            samples.push(sample);
        }
        Ok(samples)
    }

    /// Latency alone, at a fixed rate: percentiles are of all pieces together, since one has too few exchanges for the highest.
    fn at_a_rate(&self, round: usize, turns: &[Turn<'_>], rate: f64) -> Result<Vec<Sample>, BenchError> {
        let open = self.in_slices(turns, |_| Some(rate), self.plan.fixed_ms)?;
        let mut samples = Vec::new();
        for (turn, pieces) in turns.iter().zip(&open) {
            let closed = sample(round, turn, pieces);
            let mut sample =
                Sample { p50_closed_us: 0.0, p99_closed_us: 0.0, errors: 0, repeated: 0, ..closed };
            sample.rate_per_second = rate;
            self.add_open_loop(turn, pieces, &mut sample)?;
            set_latencies(&mut sample, pieces);
            samples.push(sample);
        }
        Ok(samples)
    }

    /// One kind of load on every subject, in pieces: there and back through the subjects, until each had its time.
    fn in_slices(
        &self,
        turns: &[Turn<'_>],
        rate: impl Fn(&Case) -> Option<f64>,
        measure_ms: u64,
    ) -> Result<Vec<Pieces>, BenchError> {
        there_and_back(turns.len(), self.plan.slices, |index| {
            let turn = turns[index];
            self.undisturbed(turn, rate(turn.case), measure_ms / self.plan.slices)
        })
    }

    fn add_open_loop(&self, turn: &Turn<'_>, pieces: &Pieces, sample: &mut Sample) -> Result<(), BenchError> {
        sample.p50_us = pieces.median(|piece| piece.p50_ns as f64 / 1e3);
        sample.p99_us = pieces.median(|piece| piece.p99_ns as f64 / 1e3);
        sample.errors += pieces.errors();
        sample.repeated += pieces.repeated();
        sample.first_error = sample.first_error.take().or_else(|| pieces.first_error());
        add_memory(sample, &turn.subject.pids())?;
        turn.subject.empty_logs(self.setting);
        Ok(())
    }

    /// One piece.
    fn undisturbed(
        &self,
        turn: Turn<'_>,
        rate: Option<f64>,
        measure_ms: u64,
    ) -> Result<LoadReport, BenchError> {
        let (report, repeated) = undisturbed(|| self.load(turn, rate, measure_ms), |report| report.errors)?;
        Ok(LoadReport { repeated, ..report })
    }

    /// One run of the load generator, with the proof that the subject carried it.
    fn load(&self, turn: Turn<'_>, rate: Option<f64>, measure_ms: u64) -> Result<LoadReport, BenchError> {
        let Turn { subject, case, .. } = turn;
        self.run.check_interrupt()?;
        let spec = LoadSpec {
            cpu: LOAD_CPU,
            target: subject.target(case.port),
            exchange: case.exchange.clone(),
            connections: case.connections,
            rate,
            warm_up_ms: self.plan.warm_up_ms,
            measure_ms,
            watch: subject.pids(),
            manner: crate::load::Manner::default(),
        };
        let before = subject.carried(case.port)?;
        let begun = subject.begun()?;
        let report = finish_load(subject.client.start(role::command("load", &spec)?)?, &spec)?;
        check_carried(case, subject, before, &report)?;
        check_fresh(case, subject, begun, &report)?;
        Ok(report)
    }
}

/// So many by turns, there and back, until each had all its pieces.
pub(super) fn there_and_back(
    count: usize,
    slices: u64,
    mut piece: impl FnMut(usize) -> Result<LoadReport, BenchError>,
) -> Result<Vec<Pieces>, BenchError> {
    let mut all: Vec<Pieces> = (0..count).map(|_| Pieces::default()).collect();
    for slice in 0..slices {
        let mut order: Vec<usize> = (0..count).collect();
        if slice % 2 == 1 {
            order.reverse();
        }
        for index in order {
            all[index].add(piece(index)?);
        }
    }
    Ok(all)
}

/// Percentiles of all pieces together, and all that they are of.
pub(super) fn set_latencies(sample: &mut Sample, pieces: &Pieces) {
    let all = pieces.latencies();
    let micros = |share| all.quantile(share) as f64 / 1e3;
    sample.p50_us = micros(0.5);
    sample.p99_us = micros(0.99);
    sample.further.p90_us = micros(0.9);
    sample.further.p999_us = micros(0.999);
    sample.latencies = all.bounds();
}

/// What these processes have resident now.
pub(super) fn add_memory(sample: &mut Sample, pids: &[u32]) -> Result<(), BenchError> {
    let memory = procfs::memory_of(pids)?;
    sample.rss_bytes += memory.rss as f64;
    sample.pss_bytes += memory.pss as f64;
    Ok(())
}

/// Another subject begins in each round.
fn turns<'a>(subjects: &'a [Subject], group: &Group, case: &'a Case, round: usize) -> Vec<Turn<'a>> {
    let turn = |again| move |subject| Turn { subject, case, again };
    let mut turns: Vec<Turn<'a>> = subjects.iter().map(turn(false)).collect();
    let twice = subjects.iter().filter(|subject| group.is_measured_twice(subject.kind));
    turns.extend(twice.map(turn(true)));
    let first = round % turns.len().max(1);
    turns.rotate_left(first);
    turns
}

/// The figures of a closed loop.
fn sample(round: usize, turn: &Turn<'_>, pieces: &Pieces) -> Sample {
    Sample {
        case: turn.case.name.to_owned(),
        subject: turn.subject.kind.name().to_owned(),
        round,
        again: turn.again,
        rps: pieces.median(LoadReport::per_second),
        p50_closed_us: pieces.median(|piece| piece.p50_ns as f64 / 1e3),
        p99_closed_us: pieces.median(|piece| piece.p99_ns as f64 / 1e3),
        cpu_us_per_request: pieces.median(LoadReport::cpu_us),
        proxy_busy: pieces.median(|piece| piece.watched_cpu_ns as f64 / piece.elapsed_ns.max(1) as f64),
        load_cpu_us_per_request: pieces.median(LoadReport::own_cpu_us),
        errors: pieces.errors(),
        first_error: pieces.first_error(),
        repeated: pieces.repeated(),
        ..Sample::default()
    }
}

/// A piece, and how often it was repeated: measured again if a hypervisor took the CPUs away meanwhile. One with errors is never set
/// aside.
pub(super) fn undisturbed<T>(
    mut measure: impl FnMut() -> Result<T, BenchError>,
    errors: impl Fn(&T) -> u64,
) -> Result<(T, u32), BenchError> {
    for repeated in 0.. {
        let (stolen, begun) = (procfs::stolen_ns(), clock::now());
        let piece = measure()?;
        let share = (procfs::stolen_ns() - stolen) as f64 / (clock::now() - begun).max(1) as f64;
        if share <= MOST_STOLEN || repeated == MOST_REPEATS || errors(&piece) > 0 {
            return Ok((piece, repeated));
        }
    }
    unreachable!("the last repeat returns")
}

/// Waits for a load generator to end, and takes its report.
pub(super) fn finish_load(process: Process, spec: &LoadSpec) -> Result<LoadReport, BenchError> {
    finish(process, Duration::from_millis(spec.warm_up_ms + spec.measure_ms) + GRACE)
}

/// Waits for a process of the bench's own to end, and takes what it reports.
pub(super) fn finish<T: DeserializeOwned>(mut process: Process, limit: Duration) -> Result<T, BenchError> {
    let ended = process.wait(limit);
    let output = process.output();
    match ended {
        Some(status) if status.success() => Ok(serde_json::from_str(&output)?),
        Some(_) => Err(BenchError::Load(output)),
        None => Err(BenchError::Load(format!("not ended after {limit:?}"))),
    }
}

/// The subject must have counted what was sent, where it counts.
fn check_carried(
    case: &Case,
    subject: &Subject,
    before: Option<u64>,
    report: &LoadReport,
) -> Result<(), BenchError> {
    let Some(before) = before else { return Ok(()) };
    let sent = if case.port.is_http() {
        ("requests", report.exchanges_in_all)
    } else {
        ("connections", report.connections_in_all)
    };
    check_counted(subject.kind, sent, report, || {
        subject.carried(case.port).ok().flatten().unwrap_or(0).saturating_sub(before)
    })
}

/// What a subject counts must grow by what was sent; its counters may be published with some delay.
pub(super) fn check_counted(
    kind: Kind,
    (what, sent): (&'static str, u64),
    report: &LoadReport,
    count: impl Fn() -> u64,
) -> Result<(), BenchError> {
    let mut counted = 0;
    let carried = clock::wait_until(COUNTERS, || {
        counted = count();
        counted >= sent
    });
    if carried || report.errors > 0 {
        return Ok(());
    }
    Err(BenchError::Bypassed { subject: kind.name().into(), what, counted, sent })
}

/// Where every exchange is to be on connections of its own, the client's pod has begun two for each: the client's, and its
/// proxy's to the other node.
fn check_fresh(case: &Case, subject: &Subject, before: u64, report: &LoadReport) -> Result<(), BenchError> {
    if case.manner != Manner::Fresh || !subject.kind.has_proxy() {
        return Ok(());
    }
    let (begun, sent) = (subject.begun()?.saturating_sub(before), report.exchanges_in_all);
    if begun >= 2 * sent {
        return Ok(());
    }
    Err(BenchError::Reused { subject: subject.kind.name().into(), begun, sent })
}

/// The common rate of the open loop, as a share of what the slowest subject does in the closed loop.
const SHARE_OF_SLOWEST: f64 = 0.5;
/// Share of one CPU's time that a hypervisor may take during a piece that counts.
const MOST_STOLEN: f64 = 0.02;
/// How often a piece is measured again before it counts as it is.
const MOST_REPEATS: u32 = 4;
/// What a load generator may take beyond its times.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// How late a subject's counters may be.
const COUNTERS: Duration = Duration::from_secs(3);
