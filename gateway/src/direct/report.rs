//! What `/status` and `/nodes` say.

use atoll_channels::port::AccountStatus;
use serde_json::Value;

use crate::channels;
use crate::hello;
use crate::house::House;
use crate::journal::outbox;

/// How things are, one line each.
pub(super) async fn status(house: &House) -> String {
    let config = house.config();
    let nodes = house.ring.rows().await;
    let connected = nodes.iter().filter(|node| is_connected(node)).count();
    let lanes = house.lanes.list().await;
    let running = lanes.iter().filter(|lane| lane.running.is_some()).count();
    let waiting: usize = lanes.iter().map(|lane| lane.waiting).sum();
    let unsent = house.journal.read(outbox::open_count).await;
    let unsent = unsent.map_or_else(|error| format!("unknown ({error})"), |count| count.to_string());
    let model = config.models_of(config.default_agent()).into_iter().next();
    let mut lines = vec![
        format!(
            "**atoll** {}, up {}",
            env!("CARGO_PKG_VERSION"),
            duration(hello::uptime_ms(house.started))
        ),
        format!(
            "Model: {}",
            model.unwrap_or_else(|| "none; set agents.defaults.model.primary".to_owned())
        ),
        format!("Nodes: {connected} of {} connected", nodes.len()),
        format!("Turns: {running} running, {waiting} waiting; messages to send: {unsent}"),
    ];
    let unstored = house.journal.insisting();
    if unstored > 0 {
        lines.push(format!(
            "⚠️ {unstored} outcomes cannot be stored, so their chats wait. Check the disk of the gateway."
        ));
    }
    for bot in channels::bots(&config) {
        let account = channels::account(&bot);
        let status = house.channels.status(&account);
        lines.push(format!(
            "{}/{}: {}",
            account.channel,
            account.account,
            account_state(bot.enabled, status.as_ref())
        ));
    }
    lines.join("\n")
}

fn account_state(enabled: bool, status: Option<&AccountStatus>) -> String {
    let Some(status) = status.filter(|_| enabled) else {
        return if enabled {
            "starting".to_owned()
        } else {
            "switched off".to_owned()
        };
    };
    let state = match (status.running, status.connected) {
        (true, true) => "connected",
        (true, false) => "trying",
        (false, _) => "stopped",
    };
    let name = status
        .identity
        .as_ref()
        .map(|name| format!(" as {name}"))
        .unwrap_or_default();
    let error = status.last_error.as_ref().filter(|_| !status.connected);
    let error = error.map(|error| format!(": {error}")).unwrap_or_default();
    format!("{state}{name}{error}")
}

/// The devices, one line each.
pub(super) fn nodes(rows: &[Value]) -> String {
    if rows.is_empty() {
        return "No node is paired. Run `atoll-node run` on a device, then approve it on the gateway.".to_owned();
    }
    rows.iter().map(node).collect::<Vec<_>>().join("\n")
}

fn node(row: &Value) -> String {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let (sign, state) = if is_connected(row) {
        ("🟢", "connected")
    } else {
        ("⚪", "away")
    };
    let short: String = text("nodeId").chars().take(10).collect();
    let commands: Vec<_> = row
        .get("commands")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let can = if commands.is_empty() {
        String::new()
    } else {
        format!("\n    {}", commands.join(" "))
    };
    format!(
        "{sign} **{}** (`{short}`, {}, {state}){can}",
        plain(text("displayName")),
        plain(text("platform"))
    )
}

/// A device's own words, with nothing in them that would format.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_whitespace() || "*_`[]~".contains(c) {
                ' '
            } else {
                c
            }
        })
        .collect()
}

fn is_connected(row: &Value) -> bool {
    row.get("connected") == Some(&Value::Bool(true))
}

fn duration(ms: u64) -> String {
    let minutes = ms / 60_000;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => format!("{} s", ms / 1000),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_told_by_name_id_state_and_commands() {
        let row = json!({"nodeId": "abcdef0123456789", "displayName": "lap*top", "platform": "linux", "connected": true,
                         "commands": ["system.run", "system.which"]});
        assert_eq!(
            nodes(&[row]),
            "🟢 **lap top** (`abcdef0123`, linux, connected)\n    system.run system.which"
        );
        assert!(nodes(&[]).contains("atoll-node run"));
    }

    #[test]
    fn an_account_is_told_with_what_is_wrong_with_it() {
        let broken = AccountStatus {
            running: true,
            last_error: Some("401".into()),
            ..AccountStatus::default()
        };
        assert_eq!(account_state(true, Some(&broken)), "trying: 401");
        let fine = AccountStatus {
            connected: true,
            identity: Some("@b (1)".into()),
            ..broken.clone()
        };
        assert_eq!(account_state(true, Some(&fine)), "connected as @b (1)");
        assert_eq!(account_state(false, Some(&broken)), "switched off");
        assert_eq!(account_state(true, None), "starting");
    }

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        let minute = 60_000;
        for (ms, text) in [
            (5_000, "5 s"),
            (61 * minute, "1 h 1 min"),
            (2 * minute, "2 min"),
            (1500 * minute, "1 d 1 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
