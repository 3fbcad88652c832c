//! The scenario `routes`: what a request costs where its Service has 1, 100, 1,000 and 10,000 routes, and how soon one more is
//! obeyed.
//!
//! Requests are spread over all routes, so that no cache has them ready. All subjects run at once, each with pods of its own, and
//! take turns piece by piece whatever their number of routes: what is compared is of the same moments. A route that is there must
//! never be answered with anything but 200.

use std::time::Duration;

use super::{
    Case, Plan,
    rounds::{Sitting, Turn},
};
use crate::{
    Run,
    error::BenchError,
    lab::{
        LOAD_CPU, Nodes,
        backends::{Port, SMALL},
    },
    load::Exchange,
    outcome::{Outcome, Sample, Samples, median, verdict::ONE},
    role::{self, AppearSpec, Appeared},
    subject::{Kind, Routes, Setting, Subject, routed},
};

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let setting = run.setting(NAME)?;
    let nodes = Nodes::one()?;
    let wanted = |routes: &Routes| run.asks_for("", case_of(*routes).name);
    let appears = run.asks_for("", MORE);
    let sizes: Vec<Routes> = Routes::ALL
        .into_iter()
        .filter(|routes| wanted(routes) || (appears && *routes == Routes::TenThousand))
        .collect();
    let mut subjects = Vec::new();
    for kind in sizes.iter().flat_map(|routes| routed::subjects(*routes)) {
        if run.asks_for(kind.name(), "") {
            run.progress(&format!("{NAME}: starting {}", kind.place()));
            subjects.push(Subject::start(kind, &nodes, &setting)?);
            run.check_interrupt()?;
        }
    }
    let cases = Routes::ALL.map(case_of);
    let sitting = Sitting { plan, run, setting: &setting };
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        run.progress(&format!("{NAME}: round {} of {}", round + 1, plan.rounds));
        let mut turns = turns(&subjects, &cases, round);
        turns.retain(|turn| turn.subject.kind.routes().as_ref().is_some_and(wanted));
        samples.extend(sitting.measure(round, &turns)?);
    }
    // Afterwards, since every route that is added stays.
    for round in (0..plan.rounds).filter(|_| appears) {
        run.progress(&format!("{NAME}: round {} of {}, {MORE}", round + 1, plan.rounds));
        for subject in subjects.iter().filter(|subject| subject.kind.routes() == Some(Routes::TenThousand)) {
            run.check_interrupt()?;
            samples.push(add(subject, round, plan, &setting)?);
        }
    }
    Ok(outcome(run.empty_outcome(NAME, plan), samples))
}

/// Another subject begins in each round.
fn turns<'a>(subjects: &'a [Subject], cases: &'a [Case], round: usize) -> Vec<Turn<'a>> {
    let turn = |subject: &'a Subject, again| {
        let case = cases.iter().zip(Routes::ALL).find(|(_, routes)| subject.kind.routes() == Some(*routes));
        case.map(|(case, _)| Turn { subject, case, again })
    };
    let once = subjects.iter().map(|subject| turn(subject, false));
    let twice = subjects.iter().filter(|subject| subject.kind.is_canopy()).map(|subject| turn(subject, true));
    let mut turns: Vec<Turn<'a>> = once.chain(twice).flatten().collect();
    let first = round % turns.len().max(1);
    turns.rotate_left(first);
    turns
}

fn case_of(routes: Routes) -> Case {
    let exchange = Exchange::Routes { count: routes.count(), body: SMALL };
    let name = match routes {
        Routes::One => "routes-1",
        Routes::Hundred => "routes-100",
        Routes::Thousand => "routes-1000",
        Routes::TenThousand => "routes-10000",
    };
    Case::new(name, Port::Http, exchange, CONNECTIONS)
}

/// Some routes more, one by one, to a subject that has many.
fn add(subject: &Subject, round: usize, plan: Plan, setting: &Setting) -> Result<Sample, BenchError> {
    let each = if plan.quick { ADDED_QUICK } else { ADDED };
    let standing = Routes::TenThousand.count() + round * each;
    let ready = (standing..standing + each).map(|number| routed::lay_ready(subject.kind, number, setting));
    let spec = AppearSpec {
        cpu: LOAD_CPU,
        target: subject.target(Port::Http),
        standing,
        changes: ready.collect::<Result<_, _>>()?,
        limit_ms: LIMIT.as_millis() as u64,
    };
    let mut process = subject.client.start(role::command("appear", &spec)?)?;
    let ended = process.wait(LIMIT * each as u32);
    let output = process.output();
    if !ended.is_some_and(|status| status.success()) {
        return Err(BenchError::Load(output));
    }
    Ok(appeared(subject.kind, round, &serde_json::from_str(output.trim())?))
}

fn appeared(kind: Kind, round: usize, found: &Appeared) -> Sample {
    let took: Vec<f64> = found.took_ns.iter().map(|took| *took as f64 / 1e3).collect();
    Sample {
        case: format!("{MORE}{}", if kind.is_canopy() { "" } else { BY_ENVOY }),
        subject: kind.name().into(),
        round,
        p50_us: median(&took),
        p99_us: took.iter().copied().fold(0.0, f64::max),
        errors: found.wrong,
        first_error: found.first_wrong.clone(),
        ..Sample::default()
    }
}

/// Rows and ratios: of each subject to the other, and of each to itself with one route in the same round.
fn outcome(mut outcome: Outcome, samples: Vec<Sample>) -> Outcome {
    let measured = Samples(samples.clone());
    let compared = Samples(with_references(&samples));
    let [canopy, envoy] = routed::subjects(Routes::One).map(Kind::name);
    for case in Routes::ALL.map(|routes| case_of(routes).name) {
        for subject in [canopy, envoy] {
            if samples.iter().any(|sample| sample.case == case && sample.subject == subject) {
                outcome.rows.push(measured.row(case, subject));
            }
            outcome.ratios.extend(compared.ratios(case, subject, &format!("{subject}{ONE}")));
        }
        for to in [canopy, envoy] {
            outcome.ratios.extend(compared.ratios(case, canopy, to));
        }
    }
    for (case, subject) in [(MORE.to_owned(), canopy), (format!("{MORE}{BY_ENVOY}"), envoy)] {
        if samples.iter().any(|sample| sample.case == case) {
            outcome.rows.push(measured.row(&case, subject));
        }
    }
    outcome.samples = samples;
    outcome
}

/// The samples, and beside those of many routes what the same subject did with one in the same round.
fn with_references(samples: &[Sample]) -> Vec<Sample> {
    let mut all = samples.to_vec();
    let [one, more @ ..] = Routes::ALL.map(|routes| case_of(routes).name);
    for reference in samples.iter().filter(|sample| sample.case == one && !sample.again) {
        for case in more {
            let subject = format!("{}{ONE}", reference.subject);
            all.push(Sample { case: case.into(), subject, ..reference.clone() });
        }
    }
    all
}

const NAME: &str = "routes";
/// The case in which routes are added to 10,000.
const MORE: &str = "one-more";
/// Behind it, where they are Envoy's: single figures have no column for whose they are.
const BY_ENVOY: &str = "-envoy";
const CONNECTIONS: usize = 32;
/// How many are added in a round.
const ADDED: usize = 10;
/// The same where it is only to be seen that all works.
const ADDED_QUICK: usize = 2;
/// How long one may take to appear.
const LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::verdict::{self, Judgement};

    fn measured(growth: f64, wrong: u64) -> Outcome {
        let mut samples = Vec::new();
        for round in 0..3 {
            for (routes, cpu) in Routes::ALL.into_iter().zip([1.0, 1.0, 1.0, growth]) {
                for again in [false, true] {
                    samples.push(Sample {
                        case: case_of(routes).name.into(),
                        subject: "canopy-node".into(),
                        round,
                        again,
                        rps: 50_000.0,
                        cpu_us_per_request: 10.0 * cpu * if again { 1.02 } else { 1.0 },
                        ..Sample::default()
                    });
                }
            }
            let found = Appeared {
                took_ns: vec![4_000_000, 2_000_000, 9_000_000],
                asked: 9,
                wrong,
                first_wrong: None,
            };
            samples.push(appeared(Kind::CanopyRouted(Routes::TenThousand), round, &found));
        }
        outcome(Outcome { scenario: NAME.into(), rounds: 3, ..Outcome::default() }, samples)
    }

    #[test]
    fn many_routes_are_compared_with_one_of_the_same_round() {
        for (growth, expected) in [(1.1, Judgement::Passed), (1.3, Judgement::Missed)] {
            let outcome = measured(growth, 0);
            let ratio = outcome.ratio("routes-10000", "canopy-node", "canopy-node-one", "cpu_us_per_request");
            assert!((ratio.unwrap().median - growth).abs() < 1e-9, "{ratio:?}");
            let verdicts = verdict::all(&outcome);
            let bar = verdicts.iter().find(|verdict| verdict.to == "canopy-node-one").unwrap();
            assert_eq!((bar.case.as_str(), bar.verdict), ("routes-10000", expected), "{}", bar.why);
        }
    }

    #[test]
    fn an_answer_that_is_wrong_while_routes_are_added_is_an_error_and_times_are_a_row() {
        let outcome = measured(1.0, 0);
        let row = outcome.rows.iter().find(|row| row.case == MORE).unwrap();
        assert_eq!((row.p50_us, row.p99_us, row.errors), (4_000.0, 9_000.0, 0));
        assert_eq!(outcome.rows.len(), 5);
        let wrong = verdict::all(&measured(1.0, 1));
        let of_case = wrong.iter().find(|verdict| verdict.case == MORE).unwrap();
        assert_eq!((of_case.metric.as_str(), of_case.verdict), (verdict::ERRORS, Judgement::Missed));
    }

    #[test]
    fn requests_of_a_case_are_for_as_many_routes_as_there_are() {
        for routes in Routes::ALL {
            let case = case_of(routes);
            assert!(matches!(case.exchange, Exchange::Routes { count, .. } if count == routes.count()));
            assert!(case.name.ends_with(&format!("-{}", routes.count())));
        }
    }
}
