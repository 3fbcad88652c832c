//! `make demo`: two tenants, five pods with real servers, one node proxy, shown at work in about a minute.
//!
//! Every figure on the screen is counted from real answers or read from the running daemon; a claim that does
//! not hold ends the demo with exit code 1. It ends by itself, and leaves nothing behind: what it made is held
//! by guards, Ctrl-C unwinds them, and after a SIGKILL the next run removes what is left.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{error::DemoError, screen::Screen, stop::Stop};

mod cast;
mod error;
mod evidence;
mod lock;
mod screen;
mod stop;
mod story;

/// Show Canopy at work: two tenants, five pods in network namespaces of their own, one node proxy.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// The manifests to run on; a copy is edited, never these.
    #[arg(long, value_name = "DIR", default_value = "examples/two-tenants")]
    config: PathBuf,
    /// How the pods' traffic is steered: auto, ebpf or iptables.
    #[arg(long, default_value = "auto")]
    redirect: String,
    /// At the end, leave all of it running until Ctrl-C.
    #[arg(long)]
    hold: bool,
    /// Show each thing as briefly as can be measured.
    #[arg(long)]
    quick: bool,
    /// Seconds after which it gives up, clears away and fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 110)]
    limit: u64,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Be the gRPC server of a pod.
    #[command(hide = true)]
    ServeGrpc {
        /// Where to listen.
        address: SocketAddr,
        /// Whom to answer as.
        name: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Role::ServeGrpc { address, name }) = &arguments.role {
        return exit_code(&Screen::new(), testkit::grpc::serve(*address, name).map_err(DemoError::from));
    }
    let screen = Screen::new();
    let told = Stop::on_signals(Duration::from_secs(arguments.limit))
        .and_then(|stop| story::tell(&arguments, &screen, &stop));
    exit_code(&screen, told)
}

fn exit_code(screen: &Screen, outcome: Result<(), DemoError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(DemoError::Interrupted) => {
            screen.line("\nInterrupted; everything that was made is removed.");
            ExitCode::from(130)
        }
        Err(error) => {
            screen.failure(&error);
            ExitCode::FAILURE
        }
    }
}
