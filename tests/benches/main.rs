//! `atoll-bench`: measures the release programs and prints one table. What depends on the machine is given as a ratio to
//! something bare that was measured in the same run.
//!
//! `scripts/bench` builds and runs it; arguments name single measurements.

mod echo;
mod invoke;
mod messages;
mod process;
mod table;

use table::Table;

/// One measurement: its name and what fills its rows.
macro_rules! measure {
    ($chosen:expr, $table:expr, $($name:literal => $run:path,)*) => {
        $(
            if $chosen.is_empty() || $chosen.iter().any(|name| name == $name) {
                eprintln!("measuring {} …", $name);
                $run(&mut $table).await;
            }
        )*
    };
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // The bare chain runs in processes of its own, as the programs do.
        ["echo"] => return echo::serve(None).await,
        ["relay", port] => return echo::serve(Some(port.parse().expect("a port"))).await,
        _ => {}
    }
    let mut table = Table::default();
    measure!(arguments, table,
        "size" => process::size,
        "start" => process::start,
        "memory" => process::memory,
        "health" => invoke::health,
        "invoke" => invoke::latency,
        "operators" => invoke::throughput,
        "messages" => messages::messages,
    );
    table.print();
}
