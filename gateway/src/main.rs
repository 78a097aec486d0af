//! `atoll`: reads what was typed, gives it a runtime, and turns its end into words and an exit code.

use std::process::ExitCode;

use atoll_capabilities::shrink;
use atoll_gateway::cli::Cli;
use clap::Parser;
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    // Before anything else, since it must need nothing: a picture's decoder in a process of its own.
    if is_picture_helper() {
        return shrink::main();
    }
    keep_new_files_private();
    let cli = Cli::parse();
    let runtime = match runtime() {
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
            // A program that ran elsewhere has said what it had to say.
            match error.words() {
                words if words.is_empty() => {}
                words => eprintln!("atoll: {words}"),
            }
            error.exit_code()
        }
    }
}

fn is_picture_helper() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().is_some_and(|first| first == shrink::ARGUMENT) && arguments.next().is_none()
}

/// One thread for all that waits, the gateway too: a call passes through half a dozen tasks, and waking another thread for each
/// costs more than the tasks do. What computes or touches the disk for long has threads of its own (the journal, blobs, hashes).
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
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
