//! `atoll`: reads what was typed, gives it a runtime, and turns its end into words and an exit code.

use std::process::ExitCode;

use atoll_gateway::cli::Cli;
use clap::Parser;
use tokio::runtime::{Builder, Runtime};

/// Enough for a gateway: it waits far more than it computes, and model, hash and file work leaves these threads free.
const GATEWAY_WORKERS: usize = 2;

fn main() -> ExitCode {
    keep_new_files_private();
    let cli = Cli::parse();
    let runtime = match runtime(cli.is_gateway_run()) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("atoll: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(cli.run());
    // Everything that must end in order has ended; what still sits in a system call is not waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll: {}", error.words());
            error.exit_code()
        }
    }
}

fn runtime(is_gateway: bool) -> std::io::Result<Runtime> {
    let mut builder = if is_gateway {
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    if is_gateway {
        builder.worker_threads(GATEWAY_WORKERS);
    }
    builder.enable_all().build()
}

/// Before the first file is made, whoever makes it.
#[cfg(unix)]
fn keep_new_files_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

#[cfg(not(unix))]
fn keep_new_files_private() {
    // The profile folder's access list already keeps other users out.
}
