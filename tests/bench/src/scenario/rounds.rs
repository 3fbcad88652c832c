//! Interleaved rounds: every subject in every case, one after the other, so that what the machine does meanwhile
//! meets them alike.
//!
//! First all subjects in a closed loop, for throughput and CPU; then all at the same rate, half of what the slowest
//! of them did, for latency. A subject that did not carry what was sent ends the run.

use std::{rc::Rc, time::Duration};

use testkit::Node;

use super::{Case, Plan, Scenario, pieces::Pieces};
use crate::{
    Run, clock,
    error::BenchError,
    lab::{LOAD_CPU, procfs},
    load::{LoadReport, LoadSpec},
    outcome::{Sample, Samples},
    role,
    subject::{Setting, Subject},
};

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(scenario: &Scenario, plan: Plan, run: &Run) -> Result<Samples, BenchError> {
    let setting = run.setting(scenario.name)?;
    let node = Rc::new(Node::new()?);
    let mut subjects = Vec::new();
    for kind in &scenario.subjects {
        run.progress(&format!("{}: starting {}", scenario.name, kind.name()));
        subjects.push(Subject::start(*kind, &node, &setting)?);
        run.check_interrupt()?;
    }
    let mut rounds =
        Rounds { scenario, plan, run, setting: &setting, subjects: &subjects, samples: Samples::default() };
    for round in 0..plan.rounds {
        for case in &scenario.cases {
            rounds.case(round, case)?;
        }
    }
    Ok(rounds.samples)
}

struct Rounds<'a> {
    scenario: &'a Scenario,
    plan: Plan,
    run: &'a Run,
    setting: &'a Setting,
    subjects: &'a [Subject],
    samples: Samples,
}

/// A subject's turn in a round; the second time for the A/A ratio.
#[derive(Clone, Copy)]
struct Turn<'a> {
    subject: &'a Subject,
    again: bool,
}

impl<'a> Rounds<'a> {
    fn case(&mut self, round: usize, case: &Case) -> Result<(), BenchError> {
        let turns = self.turns(round);
        self.announce(round, case);
        let closed = self.in_slices(case, &turns, None, self.plan.closed_ms)?;
        let slowest =
            closed.iter().map(|pieces| pieces.median(LoadReport::per_second)).fold(f64::INFINITY, f64::min);
        let rate = (slowest * SHARE_OF_SLOWEST).max(1.0);
        let open = self.in_slices(case, &turns, Some(rate), self.plan.open_ms)?;
        for ((turn, closed), open) in turns.iter().zip(closed).zip(open) {
            let mut sample = sample(case, round, turn, &closed);
            sample.rate_per_second = rate;
            self.add_open_loop(turn, &open, &mut sample)?;
            self.samples.0.push(sample);
        }
        Ok(())
    }

    /// One kind of load on every subject, in pieces: there and back through the subjects, until each had its time.
    fn in_slices(
        &self,
        case: &Case,
        turns: &[Turn<'_>],
        rate: Option<f64>,
        measure_ms: u64,
    ) -> Result<Vec<Pieces>, BenchError> {
        let mut all: Vec<Pieces> = turns.iter().map(|_| Pieces::default()).collect();
        for slice in 0..self.plan.slices {
            let mut order: Vec<usize> = (0..turns.len()).collect();
            if slice % 2 == 1 {
                order.reverse();
            }
            for turn in order {
                let report =
                    self.undisturbed(case, turns[turn].subject, rate, measure_ms / self.plan.slices)?;
                all[turn].add(report);
            }
        }
        Ok(all)
    }

    /// Another subject begins in each round.
    fn turns(&self, round: usize) -> Vec<Turn<'a>> {
        let mut turns: Vec<Turn<'a>> =
            self.subjects.iter().map(|subject| Turn { subject, again: false }).collect();
        let twice = self.subjects.iter().find(|s| s.kind == self.scenario.against_itself);
        turns.extend(twice.map(|subject| Turn { subject, again: true }));
        let first = round % turns.len().max(1);
        turns.rotate_left(first);
        turns
    }

    fn add_open_loop(&self, turn: &Turn<'_>, pieces: &Pieces, sample: &mut Sample) -> Result<(), BenchError> {
        sample.p50_us = pieces.median(|piece| piece.p50_ns as f64 / 1e3);
        sample.p99_us = pieces.median(|piece| piece.p99_ns as f64 / 1e3);
        sample.errors += pieces.errors();
        sample.repeated += pieces.repeated();
        sample.first_error = sample.first_error.take().or_else(|| pieces.first_error());
        if let Some(pid) = turn.subject.pid() {
            let memory =
                procfs::memory(pid).map_err(|e| BenchError::io(format!("read the memory of {pid}"), e))?;
            sample.rss_bytes = memory.rss as f64;
            sample.pss_bytes = memory.pss as f64;
        }
        turn.subject.empty_log(self.setting);
        Ok(())
    }

    /// One piece, measured again if a hypervisor took the CPUs away meanwhile. A piece with errors is never set aside.
    fn undisturbed(
        &self,
        case: &Case,
        subject: &Subject,
        rate: Option<f64>,
        measure_ms: u64,
    ) -> Result<LoadReport, BenchError> {
        for repeated in 0.. {
            let (stolen, begun) = (procfs::stolen_ns(), clock::now());
            let report = self.load(case, subject, rate, measure_ms)?;
            let share = (procfs::stolen_ns() - stolen) as f64 / (clock::now() - begun).max(1) as f64;
            if share <= MOST_STOLEN || repeated == MOST_REPEATS || report.errors > 0 {
                return Ok(LoadReport { repeated, ..report });
            }
        }
        unreachable!("the last repeat returns")
    }

    /// One run of the load generator, with the proof that the subject carried it.
    fn load(
        &self,
        case: &Case,
        subject: &Subject,
        rate: Option<f64>,
        measure_ms: u64,
    ) -> Result<LoadReport, BenchError> {
        self.run.check_interrupt()?;
        let spec = LoadSpec {
            cpu: LOAD_CPU,
            target: subject.target(case.port),
            exchange: case.exchange.clone(),
            connections: case.connections,
            rate,
            warm_up_ms: self.plan.warm_up_ms,
            measure_ms,
            watch: subject.pid(),
        };
        let before = subject.carried(case.port)?;
        let mut process = subject.client.start(role::command("load", &spec)?)?;
        let limit = Duration::from_millis(spec.warm_up_ms + measure_ms) + GRACE;
        let ended = process.wait(limit);
        let output = process.output();
        match ended {
            Some(status) if status.success() => {}
            Some(_) => return Err(BenchError::Load(output)),
            None => return Err(BenchError::Load(format!("not ended after {limit:?}"))),
        }
        let report: LoadReport = serde_json::from_str(&output)?;
        check_carried(case, subject, before, &report)?;
        Ok(report)
    }

    fn announce(&self, round: usize, case: &Case) {
        let per_round = self.scenario.cases.len() * (self.subjects.len() + 1);
        let left = (self.plan.rounds * per_round).saturating_sub(self.samples.0.len()) as f64
            * self.plan.seconds_each();
        self.run.progress(&format!(
            "{}: round {} of {}, {}; about {left:.0} s left of this scenario",
            self.scenario.name,
            round + 1,
            self.plan.rounds,
            case.name,
        ));
    }
}

/// The figures of a closed loop.
fn sample(case: &Case, round: usize, turn: &Turn<'_>, pieces: &Pieces) -> Sample {
    Sample {
        case: case.name.to_owned(),
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

/// What the subject counts must grow by what was sent; its counters may be published with some delay.
fn check_carried(
    case: &Case,
    subject: &Subject,
    before: Option<u64>,
    report: &LoadReport,
) -> Result<(), BenchError> {
    let Some(before) = before else { return Ok(()) };
    let http = case.port.is_http();
    let sent = if http { report.exchanges_in_all } else { report.connections_in_all };
    let mut counted = 0;
    let carried = clock::wait_until(COUNTERS, || {
        counted = subject.carried(case.port).ok().flatten().unwrap_or(0).saturating_sub(before);
        counted >= sent
    });
    if carried || report.errors > 0 {
        return Ok(());
    }
    let what = if http { "requests" } else { "connections" };
    Err(BenchError::Bypassed { subject: subject.kind.name().into(), what, counted, sent })
}

/// The common rate of the open loop, as a share of what the slowest subject does in the closed loop.
const SHARE_OF_SLOWEST: f64 = 0.5;
/// Share of one CPU's time that a hypervisor may take during a piece that counts.
const MOST_STOLEN: f64 = 0.02;
/// How often a piece is measured again before it counts as it is.
const MOST_REPEATS: u32 = 4;
/// What a load generator may take beyond its times.
const GRACE: Duration = Duration::from_secs(8);
/// How late a subject's counters may be.
const COUNTERS: Duration = Duration::from_secs(3);
