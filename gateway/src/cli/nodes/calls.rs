//! `atoll nodes calls`: which calls are open, which ended lately, and each change as it happens.

use std::collections::HashMap;

use clap::Args;
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::output::{self, cut, list, short, text};
use super::super::{CliError, Reach};
use crate::clock;

/// What tells a watcher that the list looks different.
const CHANGED: &str = "node.calls.changed";

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes calls --node laptop --watch")]
pub(in crate::cli) struct Calls {
    /// Only those on this node
    #[arg(long)]
    node: Option<String>,
    /// Only those in this state; also open, or ended
    #[arg(long)]
    state: Option<String>,
    /// So many at most
    #[arg(long, short = 'n', default_value_t = 30)]
    limit: u32,
    /// Stay, and print each call again when its state changes
    #[arg(long, short)]
    watch: bool,
}

impl Calls {
    pub(in crate::cli) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let mut ask = json!({"limit": self.limit});
        if let Some(node) = &self.node {
            ask["nodeId"] = json!(super::find(client, node).await?);
        }
        if let Some(state) = &self.state {
            ask["state"] = json!(state);
        }
        let reply = client.call("node.calls.list", ask.clone()).await?;
        if reach.json && !self.watch {
            return output::json(&reply);
        }
        let mut shown = Shown {
            json: reach.json,
            ..Shown::default()
        };
        shown.names = names(client).await?;
        if list(&reply, "calls").is_empty() && !self.watch {
            return output::line("no call lately; make one with `atoll nodes invoke …`");
        }
        if !reach.json {
            output::line(HEAD.line())?;
        }
        shown.show(list(&reply, "calls"))?;
        if self.watch {
            self.follow(client, ask, shown).await
        } else {
            Ok(())
        }
    }

    /// Ends with the link.
    async fn follow(&self, client: &mut Client, ask: Value, mut shown: Shown) -> Result<(), CliError> {
        loop {
            if client.event().await?.name == CHANGED {
                let reply = client.call("node.calls.list", ask.clone()).await?;
                shown.show(list(&reply, "calls"))?;
            }
        }
    }
}

async fn names(client: &mut Client) -> Result<HashMap<String, String>, CliError> {
    let reply = client.call("node.list", json!({})).await?;
    let named = |row: &Value| (text(row, "nodeId").to_owned(), text(row, "displayName").to_owned());
    Ok(list(&reply, "nodes").iter().map(named).collect())
}

/// What was printed of each call last.
#[derive(Default)]
struct Shown {
    json: bool,
    names: HashMap<String, String>,
    states: HashMap<String, String>,
}

impl Shown {
    /// Prints those that look different than before.
    fn show(&mut self, calls: &[Value]) -> Result<(), CliError> {
        let mut states = HashMap::new();
        for call in calls {
            let (id, state) = (text(call, "callId").to_owned(), text(call, "state").to_owned());
            if self.states.get(&id) != Some(&state) {
                if self.json {
                    output::json(call)?;
                } else {
                    output::line(row(call, &self.names).line())?;
                }
            }
            states.insert(id, state);
        }
        self.states = states;
        Ok(())
    }
}

/// One line, 80 columns at most.
struct Line<T> {
    call: T,
    node: T,
    command: T,
    state: T,
    since: T,
    left: T,
    caller: T,
}

const HEAD: Line<&str> = Line {
    call: "CALL",
    node: "NODE",
    command: "COMMAND",
    state: "STATE",
    since: "FOR",
    left: "LEFT",
    caller: "BY",
};

impl<T: AsRef<str>> Line<T> {
    fn line(&self) -> String {
        let text = format!(
            "{:<8}  {:<11}  {:<15}  {:<19}  {:>4}  {:>4}  {}",
            cut(self.call.as_ref(), 8),
            cut(self.node.as_ref(), 11),
            cut(self.command.as_ref(), 15),
            cut(self.state.as_ref(), 19),
            cut(self.since.as_ref(), 4),
            cut(self.left.as_ref(), 4),
            cut(self.caller.as_ref(), 7),
        );
        text.trim_end().to_owned()
    }
}

fn row(call: &Value, names: &HashMap<String, String>) -> Line<String> {
    let now = clock::now_ms();
    let number = |field: &str| call.get(field).and_then(Value::as_u64);
    let is_open = call.get("open").and_then(Value::as_bool).unwrap_or_default();
    let node = text(call, "nodeId");
    Line {
        call: text(call, "callId").chars().take(8).collect(),
        node: names.get(node).cloned().unwrap_or_else(|| short(node)),
        command: text(call, "command").to_owned(),
        state: text(call, "state").to_owned(),
        since: output::ago(number("sinceMs"), now),
        // How long it still has is how long ago now is from its deadline.
        left: number("deadlineMs")
            .filter(|_| is_open)
            .map_or_else(|| "-".to_owned(), |at| output::ago(Some(now), at)),
        caller: text(call, "caller").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_never_leaves_the_terminal_and_its_columns_stay_in_place() {
        let now = clock::now_ms();
        let call = json!({
            "callId": "0c9f8a1e-1111", "nodeId": "ab".repeat(32), "command": "system.execApprovals.get", "open": true,
            "state": "running (node away)", "sinceMs": now - 90_500, "deadlineMs": now + 7_200_900, "caller": "x".repeat(64),
        });
        let names = HashMap::from([("ab".repeat(32), "a laptop with a long name".to_owned())]);
        let line = row(&call, &names).line();
        assert_eq!(
            line,
            "0c9f8a1e  a laptop w…  system.execApp…  running (node away)    1m    2h  xxxxxx…"
        );
        assert!(line.chars().count() <= 80, "{}", line.chars().count());
        assert_eq!(
            HEAD.line(),
            "CALL      NODE         COMMAND          STATE                 FOR  LEFT  BY"
        );
        let ended = json!({"callId": "1", "nodeId": "gateway", "state": "ok", "open": false, "sinceMs": now, "deadlineMs": now});
        assert_eq!(
            row(&ended, &names).line(),
            "1         gateway                       ok                     0s     -"
        );
    }
}
