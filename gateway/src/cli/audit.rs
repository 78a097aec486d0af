//! `atoll audit`: who did what, and what was refused.

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::nodes::time;
use super::output::{self, list, short, text};
use super::{CliError, Reach};
use crate::clock;

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll audit --since 2h

--json has all of it: whole ids, which call it was, and why something was refused.")]
pub(super) struct Audit {
    /// How many entries at most, newest first
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Only what is not older, e.g. 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<u64>,
}

impl Audit {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let mut ask = json!({"limit": self.limit});
        if let Some(age) = self.since {
            ask["since"] = json!(clock::now_ms().saturating_sub(age));
        }
        let reply = Client::connect(reach).await?.call("audit.entries", ask).await?;
        if reach.json {
            return output::json(&reply);
        }
        let rows: Vec<_> = list(&reply, "entries").iter().map(row).collect();
        if rows.is_empty() {
            return output::line("nothing was done");
        }
        output::table(&["WHEN", "WHO", "OUTCOME", "WHAT", "TO", "WHY"], &rows)
    }
}

fn row(entry: &Value) -> Vec<String> {
    let detail = entry.get("detail").unwrap_or(&Value::Null);
    // Which command it was says more than that it was one.
    let what = match text(detail, "command") {
        "" => text(entry, "action"),
        command => command,
    };
    vec![
        moment(entry.get("at").and_then(Value::as_i64).unwrap_or_default()),
        named(text(entry, "actor")),
        text(entry, "outcome").to_owned(),
        what.to_owned(),
        named(text(entry, "target")),
        text(detail, "why").to_owned(),
    ]
}

/// In the time of this machine.
fn moment(at: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    let here = moment.to_zoned(jiff::tz::TimeZone::system());
    here.strftime("%m-%d %H:%M:%S").to_string()
}

/// Ids of devices and of questions are known by their beginning, which leaves room for the reason.
fn named(who: &str) -> String {
    let is_device = who.len() == 64 && who.bytes().all(|byte| byte.is_ascii_hexdigit());
    match uuid::Uuid::try_parse(who) {
        _ if is_device => short(who),
        Ok(_) => who.chars().take(8).collect(),
        Err(_) => who.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_who_did_what_to_what_and_how_it_ended() {
        let id = "c".repeat(64);
        let entry = json!({
            "at": 0, "actor": "agent:main", "action": "node.invoke", "target": id, "outcome": "denied",
            "detail": {"command": "camera.snap", "why": "not allowed"},
        });
        assert_eq!(
            row(&entry)[1..],
            ["agent:main", "denied", "camera.snap", "cccccccccc", "not allowed"]
        );
        let entry = json!({"at": 0, "actor": id, "action": "config.set", "target": "gateway.port", "outcome": "ok", "detail": {}});
        assert_eq!(row(&entry)[1..], ["cccccccccc", "ok", "config.set", "gateway.port", ""]);
        assert_eq!(named("e32a9aa3-5f8f-4ced-b3ed-215f6fa2a0aa"), "e32a9aa3");
    }
}
