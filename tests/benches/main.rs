//! `atoll-bench`: measures the release programs and prints one table. What depends on the machine is given as a ratio to
//! something bare that was measured in the same run.
//!
//! `scripts/bench` builds and runs it. Arguments name single measurements; `--json` prints for programs, `--keep` makes this
//! run the baseline.

mod across;
mod blob;
mod camera;
mod crowd;
mod echo;
mod invoke;
mod messages;
mod nodes;
mod process;
mod screen;
mod session;
mod stream;
mod table;

use std::path::Path;

use table::Table;

/// The committed run, seen from the top of the tree, where `scripts/bench` starts this program.
const BASELINE: &str = "docs/bench-baseline.json";

/// The measurements: a name, and what fills its rows.
macro_rules! measurements {
    ($($name:literal => $run:path,)*) => {
        const NAMES: &[&str] = &[$($name),*];

        async fn measure(chosen: &[String], table: &mut Table) {
            $(
                if chosen.is_empty() || chosen.iter().any(|name| name == $name) {
                    eprintln!("measuring {} …", $name);
                    $run(table).await;
                }
            )*
        }
    };
}

measurements! {
    "size" => process::size,
    "start" => process::start,
    "memory" => process::memory,
    "health" => invoke::health,
    "invoke" => invoke::latency,
    "pipes" => invoke::pipes,
    "operators" => invoke::throughput,
    "blob" => blob::throughput,
    "beside" => blob::commands,
    "camera" => camera::camera,
    "screen" => screen::screen,
    "nodes-ws" => nodes::over_ws,
    "nodes-wss" => nodes::over_wss,
    "nodes-quic" => nodes::over_quic,
    "messages" => messages::messages,
    "session" => session::load,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if part(&arguments).await {
        return;
    }
    let (options, chosen): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|argument| argument.starts_with("--"));
    if let Some(wrong) = options
        .iter()
        .find(|option| !["--json", "--keep"].contains(&option.as_str()))
    {
        return refuse(&format!("{wrong} is no option; there are --json and --keep"));
    }
    if let Some(wrong) = chosen.iter().find(|name| !NAMES.contains(&name.as_str())) {
        return refuse(&format!(
            "there is no measurement {wrong}; there are {}",
            NAMES.join(", ")
        ));
    }
    let mut table = Table::default();
    measure(&chosen, &mut table).await;
    report(&table, &options);
}

/// Plays a part in a measurement of another process, if it was started for that: the bare things and crowds of nodes run in processes
/// of their own, as the programs do.
async fn part(arguments: &[String]) -> bool {
    let number = |text: &str| text.parse().expect("a number");
    let port = |text: &str| text.parse().expect("a port");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["echo", pipe] => echo::echo(echo::pipe(pipe)).await,
        ["relay", pipe, next] => echo::relay(echo::pipe(pipe), port(next)).await,
        ["sink", pipe] => stream::sink(echo::pipe(pipe)).await,
        ["source", pipe, to, certificate, size] => {
            stream::source(echo::pipe(pipe), port(to), certificate, number(size)).await;
        }
        ["nodes", gateway, folder, first, end] => {
            crowd::hold(gateway, Path::new(folder), number(first)..number(end)).await;
        }
        _ => return false,
    }
    true
}

fn refuse(why: &str) {
    eprintln!("{why}");
    std::process::exit(2);
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn report(table: &Table, options: &[String]) {
    let has = |name: &str| options.iter().any(|option| option == name);
    let path = Path::new(BASELINE);
    let json = serde_json::to_string_pretty(&table.json()).expect("a tree");
    if has("--json") {
        println!("{json}");
    } else {
        table.print();
    }
    if let Some(baseline) = table::baseline(path) {
        for regression in table.regressions(&baseline) {
            eprintln!("REGRESSION {regression}");
        }
    }
    if has("--keep") {
        std::fs::write(path, json + "\n").expect("a writable docs folder; run scripts/bench from its tree");
    }
}
