//! The program `atoll-node`.

use std::process::ExitCode;

fn main() -> ExitCode {
    atoll_node::cli::main()
}
