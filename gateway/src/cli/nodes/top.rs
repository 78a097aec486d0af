//! `atoll nodes top`: how the ring is doing, drawn again in place as it changes.

mod screen;
mod table;
mod view;

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use atoll_protocol::id::RequestId;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep_until};

use super::super::client::{Client, Heard};
use super::super::output::{self, list, text};
use super::super::{CliError, Reach};
use crate::clock;
use screen::Screen;
use view::{Key, View};

/// How often the table is drawn again though nothing was heard: ages grow.
const LOOK: Duration = Duration::from_secs(5);

/// Changes within this time are drawn together.
const PAUSE: Duration = Duration::from_millis(300);

/// How often a node is asked for its battery.
const RARELY: Duration = Duration::from_secs(5 * 60);

/// How long a node may take to tell of it; a single table waits for no more than that.
const BATTERIES: Duration = Duration::from_secs(5);

/// The command that tells of the battery.
const STATUS: &str = "device.status";

/// What makes the table look different.
const NEWS: [&str; 6] = [
    "node.hostStats",
    "node.calls.changed",
    "presence",
    "node.presence",
    "device.pair.resolved",
    "node.pair.resolved",
];

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes top

More nodes than lines: the arrow keys, page up and down, space and b move the table; q leaves.")]
pub(in crate::cli) struct Top {
    /// Print one table and end
    #[arg(long)]
    once: bool,
}

/// What is known of the ring.
#[derive(Default)]
struct Ring {
    nodes: Vec<Value>,
    pipes: HashMap<String, String>,
    batteries: HashMap<String, Value>,
    /// Questions for batteries that are under way, and whose.
    asked: HashMap<RequestId, String>,
}

impl Top {
    pub(in crate::cli) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let mut ring = Ring::default();
        // A link of its own: the answers of nodes come whenever they come.
        let mut nodes = Client::connect(reach).await?;
        ring.look(client).await?;
        ring.ask(&mut nodes).await?;
        if self.once || !(reach.json || io::stdout().is_terminal()) {
            ring.hear(&mut nodes, Instant::now() + BATTERIES).await?;
            return if reach.json {
                output::json(&ring.json())
            } else {
                ring.lines().iter().try_for_each(output::line)
            };
        }
        let mut screen = if reach.json { None } else { Some(Screen::open()?) };
        tokio::select! {
            ended = ring.follow(client, &mut nodes, &mut screen) => ended,
            () = screen::asked_to_end() => Ok(()),
        }
    }
}

impl Ring {
    /// Asks the gateway how all of it is now.
    async fn look(&mut self, client: &mut Client) -> Result<(), CliError> {
        let mut reply = client.call("node.list", json!({})).await?;
        self.nodes = reply["nodes"].as_array_mut().map(std::mem::take).unwrap_or_default();
        self.nodes.sort_by_key(|node| text(node, "displayName").to_lowercase());
        // Whoever may not see this sees the rest.
        if let Ok(devices) = client.call("device.pair.list", json!({})).await {
            let pipe = |row: &Value| (text(row, "deviceId").to_owned(), text(row, "pipe").to_owned());
            self.pipes = list(&devices, "paired").iter().map(pipe).collect();
        }
        Ok(())
    }

    /// Asks the nodes that can tell for their batteries.
    async fn ask(&mut self, client: &mut Client) -> Result<(), CliError> {
        for node in &self.nodes {
            let can_tell = list(node, "commands").iter().any(|command| command == STATUS);
            if node["connected"] == true && can_tell {
                let id = text(node, "nodeId").to_owned();
                let key = uuid::Uuid::new_v4().to_string();
                let ask = json!({"nodeId": id, "command": STATUS, "timeoutMs": BATTERIES.as_millis() as u64, "idempotencyKey": key});
                self.asked.insert(client.send("node.invoke", ask).await?, id);
            }
        }
        Ok(())
    }

    /// Takes the answer of a node in; whether the table looks different now.
    fn take(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::Event(_) => false,
            Heard::Answer(answer) => {
                let Some(node) = self.asked.remove(&answer.id) else {
                    return false;
                };
                let status = answer
                    .result
                    .map(|reply| reply.tree()["payload"].take())
                    .unwrap_or_default();
                self.batteries.insert(node, status["battery"].clone());
                true
            }
        }
    }

    /// Waits for the batteries that were asked for.
    async fn hear(&mut self, client: &mut Client, until: Instant) -> Result<(), CliError> {
        while !self.asked.is_empty() {
            tokio::select! {
                heard = client.heard() => drop(self.take(heard?)),
                () = sleep_until(until) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Draws until the link ends or somebody leaves; without a screen prints.
    async fn follow(
        &mut self,
        client: &mut Client,
        nodes: &mut Client,
        screen: &mut Option<Screen>,
    ) -> Result<(), CliError> {
        let mut view = View::default();
        let (mut look, mut rarely) = (interval(LOOK), interval(RARELY));
        // The first tick of an interval is at once.
        tokio::join!(look.tick(), rarely.tick());
        let mut due = None;
        'draw: loop {
            match screen {
                Some(screen) => screen.draw(&view.shown(self.lines(), screen::lines()))?,
                None => output::json(&self.json())?,
            }
            loop {
                tokio::select! {
                    event = client.event() => {
                        if NEWS.contains(&event?.name.as_str()) {
                            due.get_or_insert_with(soon);
                        }
                    }
                    heard = nodes.heard() => {
                        if self.take(heard?) {
                            due.get_or_insert_with(soon);
                        }
                    }
                    key = key(screen) => {
                        if key == Key::Leave {
                            return Ok(());
                        }
                        view.step(key, self.nodes.len(), screen::lines());
                        continue 'draw;
                    }
                    () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => break,
                    _ = look.tick() => break,
                    _ = rarely.tick() => self.ask(nodes).await?,
                }
            }
            due = None;
            self.look(client).await?;
        }
    }

    fn lines(&self) -> Vec<String> {
        let now = clock::now_ms();
        let row = |node: &Value| {
            let id = text(node, "nodeId");
            let pipe = self.pipes.get(id).map(String::as_str).unwrap_or_default();
            table::row(node, pipe, self.batteries.get(id).unwrap_or(&Value::Null), now)
        };
        std::iter::once(table::head())
            .chain(self.nodes.iter().map(row))
            .collect()
    }

    fn json(&self) -> Value {
        let row = |node: &Value| {
            let id = text(node, "nodeId");
            json!({
                "nodeId": id, "displayName": node["displayName"], "connected": node["connected"],
                "pipe": self.pipes.get(id), "hostStats": node["hostStats"], "battery": self.batteries.get(id),
                "openCalls": node["openCalls"].as_u64().unwrap_or_default(), "lastSeenAtMs": node["lastSeenAtMs"],
            })
        };
        json!({"ts": clock::now_ms(), "nodes": self.nodes.iter().map(row).collect::<Vec<_>>()})
    }
}

async fn key(screen: &mut Option<Screen>) -> Key {
    match screen {
        Some(screen) => screen.key().await,
        None => std::future::pending().await,
    }
}

fn soon() -> Instant {
    Instant::now() + PAUSE
}
