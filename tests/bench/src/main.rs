//! Canopy's benchmarks: `bench [SCENARIO…]`. Read `scenario` for what is measured and `docs/benchmarks.md` for how.
//!
//! Everything happens in network namespaces of its own and ends with it. It never measures a subject that did not do
//! the work, and never hides an error.

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::Parser;

use cli::{Arguments, Verb};
use error::BenchError;
use outcome::{Outcome, Row};
use run::Run;
use scenario::{Plan, Scenario};

mod cli;
mod clock;
mod error;
mod run;

// What is measured on, with what, and whom.
mod lab;
mod load;
mod role;
mod subject;

// What is measured, and what came of it.
mod outcome;
mod report;
mod scenario;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let result = role::dispatch(&arguments).unwrap_or_else(|| bench(&Arguments::parse()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// One line for whoever waits.
fn progress(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stderr(), "bench: {line}");
}

fn bench(arguments: &Arguments) -> Result<(), BenchError> {
    let run = Run::begin(arguments)?;
    let plan = Plan::new(arguments.quick, arguments.rounds);
    for verb in arguments.verbs() {
        match verb {
            Verb::Http => measure(Scenario::http(), plan, &run)?,
            Verb::Http2 => measure(Scenario::http2(), plan, &run)?,
            Verb::Tcp => measure(Scenario::tcp(), plan, &run)?,
            Verb::Capture => measure(Scenario::capture(), plan, &run)?,
            Verb::Mtls => measure_with(Scenario::mtls(), plan, &run, scenario::tunnels::run)?,
            Verb::Memory => finish(run.memory_outcome(plan, scenario::memory::run(plan, &run)?), &run)?,
            Verb::NoisyNeighbour => finish(scenario::noisy::run(plan, &run)?, &run)?,
            Verb::Tenants => finish(scenario::tenants::run(plan, &run)?, &run)?,
            Verb::Budgets => measure(Scenario::budgets(), plan, &run)?,
            Verb::Tiers => measure_with(Scenario::tiers(), plan, &run, scenario::tiers::memory)?,
            Verb::Denials => finish(scenario::denials::run(plan, &run)?, &run)?,
            Verb::Routes => finish(scenario::routes::run(plan, &run)?, &run)?,
            Verb::Churn => finish(scenario::churn::run(plan, &run)?, &run)?,
            Verb::Scale => finish(scenario::scale::run(plan, &run)?, &run)?,
            Verb::Cluster => finish(scenario::cluster::run(plan, &run)?, &run)?,
            Verb::Forms => measure(Scenario::forms(), plan, &run)?,
            Verb::Report => report::write(&run)?,
            Verb::CompareLatency => {
                finish(scenario::compare::load(Scenario::compare_latency(), plan, &run)?, &run)?
            }
            Verb::CompareThroughput => {
                finish(scenario::compare::load(Scenario::compare_throughput(), plan, &run)?, &run)?;
            }
            Verb::CompareResources => finish(scenario::compare::resources::run(plan, &run)?, &run)?,
            Verb::CompareNoisy => finish(scenario::compare::noisy::run(plan, &run)?, &run)?,
            Verb::CompareCapture => {
                finish(scenario::compare::load(Scenario::compare_capture(), plan, &run)?, &run)?
            }
            Verb::CompareBlast => finish(scenario::compare::blast::run(plan, &run)?, &run)?,
            Verb::CompareHops => finish(scenario::compare::hops::run(plan, &run)?, &run)?,
            Verb::All | Verb::Compare => {}
        }
    }
    Ok(())
}

fn measure(scenario: Scenario, plan: Plan, run: &Run) -> Result<(), BenchError> {
    measure_with(scenario, plan, run, |_, _| Ok(Vec::new()))
}

/// The same, with rows of memory that belong to the whole of it.
fn measure_with(
    mut scenario: Scenario,
    plan: Plan,
    run: &Run,
    memory: fn(Plan, &Run) -> Result<Vec<Row>, BenchError>,
) -> Result<(), BenchError> {
    run.restrict(&mut scenario);
    let measured = scenario::rounds::run(&scenario, plan, run)?;
    let mut outcome = run.outcome(&scenario, plan, measured);
    if run.is_whole() {
        outcome.rows.extend(memory(plan, run)?);
    }
    finish(outcome, run)
}

fn finish(mut outcome: Outcome, run: &Run) -> Result<(), BenchError> {
    outcome.verdicts = outcome::verdict::all(&outcome);
    outcome.write(run.directory())?;
    report::plot::write(&outcome, run.directory())?;
    progress(&format!(
        "{}\n{}",
        run.directory().join(format!("{}.json", outcome.scenario)).display(),
        report::text(&outcome)
    ));
    Ok(())
}
