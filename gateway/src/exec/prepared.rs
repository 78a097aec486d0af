//! What a host answered to `system.run.prepare`: the exact command that would run, and what the host thinks of it.

use atoll_protocol::json::Json;
use atoll_protocol::plan::FileHash;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::policy::HostVerdict;

/// A command made exact by the host that would run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// Absolute program and arguments.
    pub(crate) argv: Vec<String>,
    /// Absolute working folder.
    pub(crate) cwd: String,
    /// The command as a person reads it.
    pub(crate) text: String,
    /// The files whose content was seen.
    pub(crate) files: Vec<(String, String)>,
    /// The host's plan object, to be handed back as it is.
    pub(crate) plan: Value,
    /// The host could tell exactly this command from any other later on, so it may be allowed for ever; never a shell's text.
    pub(crate) covered: bool,
}

/// The reply was not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node's answer to system.run.prepare is not usable: {0}")]
pub(crate) struct BadPreparation(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    plan: Value,
    #[serde(default)]
    exec_policy: Option<ExecPolicy>,
    #[serde(default)]
    allow_always_coverage: Coverage,
    #[serde(default)]
    files: Vec<File>,
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Coverage {
    #[serde(default)]
    complete: bool,
}

#[derive(Deserialize)]
struct ExecPolicy {
    security: String,
    ask: String,
}

#[derive(Deserialize)]
struct File {
    path: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlanFields {
    argv: Vec<String>,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    command_text: Option<String>,
    #[serde(default)]
    mutable_file_operand: Option<File>,
}

/// Reads the reply.
pub(crate) fn read(reply: Option<&Json>) -> Result<(Prepared, HostVerdict), BadPreparation> {
    let reply: Reply = reply
        .ok_or_else(|| BadPreparation("it is empty".to_owned()))?
        .read()
        .map_err(|error| BadPreparation(error.to_string()))?;
    let fields: PlanFields =
        serde_json::from_value(reply.plan.clone()).map_err(|error| BadPreparation(error.to_string()))?;
    if fields.argv.is_empty() {
        return Err(BadPreparation("the command is empty".to_owned()));
    }
    let verdict = verdict(&reply);
    let files = reply
        .files
        .into_iter()
        .chain(fields.mutable_file_operand)
        .map(|file| (file.path, file.sha256));
    let prepared = Prepared {
        text: fields.command_text.unwrap_or_else(|| fields.argv.join(" ")),
        argv: fields.argv,
        cwd: fields.cwd.unwrap_or_default(),
        files: files.collect(),
        plan: reply.plan,
        covered: reply.allow_always_coverage.complete,
    };
    Ok((prepared, verdict))
}

fn verdict(reply: &Reply) -> HostVerdict {
    let (security, ask) = match &reply.exec_policy {
        Some(policy) => (policy.security.as_str(), policy.ask.as_str()),
        None => ("allowlist", "on-miss"),
    };
    let reason = || {
        reply
            .reason
            .clone()
            .unwrap_or_else(|| "the node's own policy denies it".to_owned())
    };
    match reply.verdict.as_deref() {
        Some("allow") if security == "full" => HostVerdict::Unrestricted,
        Some("allow") => HostVerdict::Allowlisted,
        Some("ask") => HostVerdict::Ask,
        Some(_) => HostVerdict::Deny(reason()),
        // A node that tells its policy but no verdict.
        None if security == "deny" => HostVerdict::Deny(reason()),
        None if security == "full" && ask == "off" => HostVerdict::Unrestricted,
        None => HostVerdict::Ask,
    }
}

impl Prepared {
    /// The hashes in the form that a signed plan holds; one that is not hex is left out, and the node then refuses.
    pub(crate) fn file_hashes(&self) -> Vec<FileHash> {
        self.files
            .iter()
            .filter_map(|(path, hex)| {
                let digest = hex.parse::<atoll_protocol::id::DeviceId>().ok()?;
                Some(FileHash {
                    path: path.clone(),
                    sha256: *digest.as_bytes(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict_of(reply: serde_json::Value) -> HostVerdict {
        read(Some(&reply.into())).expect("usable").1
    }

    #[test]
    fn a_node_without_a_verdict_is_judged_by_its_policy() {
        let reply = |security: &str, ask: &str| json!({"plan": {"argv": ["/bin/ls"]}, "execPolicy": {"security": security, "ask": ask}});
        assert_eq!(verdict_of(reply("full", "off")), HostVerdict::Unrestricted);
        assert_eq!(verdict_of(reply("full", "always")), HostVerdict::Ask);
        assert_eq!(verdict_of(reply("allowlist", "on-miss")), HostVerdict::Ask);
        assert!(matches!(verdict_of(reply("deny", "off")), HostVerdict::Deny(_)));
        assert_eq!(verdict_of(json!({"plan": {"argv": ["/bin/ls"]}})), HostVerdict::Ask);
    }

    #[test]
    fn an_unknown_verdict_is_a_no() {
        let reply = json!({"plan": {"argv": ["/bin/ls"]}, "verdict": "maybe"});
        assert!(matches!(verdict_of(reply), HostVerdict::Deny(_)));
    }

    #[test]
    fn a_reply_without_a_command_is_not_usable() {
        for reply in [
            json!({}),
            json!({"plan": {"argv": []}}),
            json!({"plan": {"argv": "ls"}}),
            json!([]),
        ] {
            assert!(read(Some(&reply.into())).is_err());
        }
        assert!(read(None).is_err());
    }
}
