//! `system.run` by `node.invoke`: what a caller may say about a command, and what becomes of an approval that it names.

use std::collections::BTreeMap;

use atoll_pairing::approval::plan::plan_of;
use atoll_pairing::approval::{Approval, Question, Requester, Spend};
use atoll_protocol::error::WireError;
use atoll_protocol::id::{ApprovalId, CallId};
use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::Ask;
use crate::exec::words;
use crate::house::House;
use crate::ring::Call;

/// What a node is told about a command; anything else does not reach it.
const KNOWN: &[&str] = &[
    "command",
    "rawCommand",
    "systemRunPlan",
    "cwd",
    "env",
    "stdin",
    "timeoutMs",
    "needsScreenRecording",
    "agentId",
    "sessionKey",
    "runId",
    "suppressNotifyOnExit",
    "approved",
    "approvalDecision",
    "approvalSource",
];

/// Nobody can send "approved": either the gateway holds a yes for this very run, or the words are taken out.
pub(in crate::rpc) async fn prepare(house: &House, ask: &Ask, call: &mut Call) -> Result<(), WireError> {
    let mut params = call.params.as_ref().map(Json::tree).unwrap_or_else(|| json!({}));
    let Some(fields) = params.as_object_mut() else {
        return Err(WireError::invalid(
            "invalid node.invoke params: at /params: must be object",
        ));
    };
    fields.retain(|name, _| KNOWN.contains(&name.as_str()));
    check_text(fields)?;
    let claims = fields.remove("approved").is_some_and(|approved| approved == true);
    let decided = fields.remove("approvalDecision").is_some();
    fields.remove("approvalSource");
    let plan = fields.remove("systemRunPlan");
    if claims || decided {
        let run = fields.get("runId").and_then(Value::as_str).map(str::to_owned);
        let run = run.ok_or_else(|| guard("MISSING_RUN_ID", "approval override requires params.runId"))?;
        let used = spend(house, ask, call, &run).await?;
        let approved =
            plan_of(&used).ok_or_else(|| guard("APPROVAL_NODE_MISMATCH", "the approval is not for a node"))?;
        as_approved(fields, &used.question)?;
        call.plan = Some(house.identity.sign_plan(&approved));
    } else if let Some(plan) = plan {
        fields.insert("systemRunPlan".to_owned(), plan);
    }
    fields.entry("runId").or_insert_with(|| json!(call.id));
    call.params = Some(params.into());
    Ok(())
}

/// Puts what was approved in the place of what the caller says now, as a node of the dialect runs what it is told.
fn as_approved(fields: &mut serde_json::Map<String, Value>, question: &Question) -> Result<(), WireError> {
    let mismatch = |what| guard("APPROVAL_REQUEST_MISMATCH", what);
    let env = match fields.get("env") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(env) => {
            BTreeMap::<String, String>::deserialize(env).map_err(|_| mismatch("env must be an object of texts"))?
        }
    };
    let env: Vec<_> = env.into_iter().collect();
    if crate::exec::env_sha256(&env) != question.env_sha256 {
        return Err(mismatch("this env is not the one that was approved"));
    }
    let is_fed = |stdin: &Value| !stdin.is_null() && stdin != "";
    if fields.get("stdin").is_some_and(is_fed) {
        return Err(mismatch("this stdin is not the one that was approved"));
    }
    let stored = [
        ("command", Some(json!(question.argv))),
        ("rawCommand", None),
        ("cwd", question.cwd.as_ref().map(|cwd| json!(cwd))),
        ("agentId", question.agent.as_ref().map(|agent| json!(agent))),
        ("sessionKey", question.session.as_ref().map(|session| json!(session))),
        ("systemRunPlan", question.system_run_plan.as_ref().map(Json::tree)),
    ];
    for (name, value) in stored {
        match value {
            Some(value) => drop(fields.insert(name.to_owned(), value)),
            None => drop(fields.remove(name)),
        }
    }
    Ok(())
}

async fn spend(house: &House, ask: &Ask, call: &Call, run: &str) -> Result<Approval, WireError> {
    let id = ApprovalId::new(run).map_err(|_| guard("UNKNOWN_APPROVAL_ID", "there is no approval of this id"))?;
    let by = Requester::of(&ask.caller.principal);
    let spend = Spend {
        call: CallId::clone(&call.id),
        node: Some(call.node),
        by,
    };
    Ok(house.approvals.spend(id, spend).await?)
}

fn guard(code: &str, message: &str) -> WireError {
    WireError::invalid(message).with_details(&json!({"code": code}))
}

/// `rawCommand` is shown to people in the place of the vector, so it must be the vector's own text.
fn check_text(fields: &Map<String, Value>) -> Result<(), WireError> {
    let raw = fields.get("rawCommand").and_then(Value::as_str).map(str::trim);
    let argv = fields
        .get("command")
        .and_then(|argv| Vec::<String>::deserialize(argv).ok());
    let (Some(raw), Some(argv)) = (raw.filter(|raw| !raw.is_empty()), argv) else {
        return Ok(());
    };
    if words::is_text_of(&argv, raw) {
        return Ok(());
    }
    let text = words::text_of(&argv);
    let details = json!({"code": "RAW_COMMAND_MISMATCH", "rawCommand": raw, "inferred": text, "formattedArgv": text});
    Err(WireError::invalid("INVALID_REQUEST: rawCommand does not match command").with_details(&details))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            node: None,
            command: "/bin/ls".to_owned(),
            argv: vec!["/bin/ls".to_owned()],
            cwd: Some("/tmp".to_owned()),
            env_sha256: crate::exec::env_sha256(&[("LANG".to_owned(), "C".to_owned())]),
            stdin_sha256: [0; 32],
            files: Vec::new(),
            agent: None,
            session: None,
            system_run_plan: Some(json!({"argv": ["/bin/ls"]}).into()),
            security: "allowlist".to_owned(),
            ask: "on-miss".to_owned(),
            warning: None,
            offers_always: false,
        }
    }

    #[test]
    fn what_was_approved_replaces_everything_that_the_caller_says_later() {
        let mut call = json!({
            "command": ["/bin/rm"], "rawCommand": "rm -rf /", "cwd": "/", "agentId": "x", "sessionKey": "y",
            "systemRunPlan": {"argv": ["/bin/rm"]}, "env": {"LANG": "C"}, "runId": "a1",
        });
        as_approved(call.as_object_mut().expect("an object"), &question()).expect("the same environment");
        let expected = json!({
            "command": ["/bin/ls"], "cwd": "/tmp", "systemRunPlan": {"argv": ["/bin/ls"]}, "env": {"LANG": "C"}, "runId": "a1",
        });
        assert_eq!(call, expected);
    }

    #[test]
    fn another_environment_or_input_was_not_approved() {
        for call in [
            json!({}),
            json!({"env": {"LANG": "C", "LD_PRELOAD": "/tmp/x"}}),
            json!({"env": {"LANG": 5}}),
            json!({"env": {"LANG": "C"}, "stdin": "x"}),
        ] {
            let mut changed = call.clone();
            let refused = as_approved(changed.as_object_mut().expect("an object"), &question());
            let code = refused.expect_err("not what was approved").detail_code();
            assert_eq!(code.as_deref(), Some("APPROVAL_REQUEST_MISMATCH"), "{call}");
        }
    }

    #[test]
    fn the_text_of_a_command_is_its_own() {
        let cases = [
            (json!({"command": ["echo", "a b"], "rawCommand": "echo \"a b\""}), true),
            (json!({"command": ["echo", "a b"], "rawCommand": "echo a b"}), false),
            (
                json!({"command": ["/bin/sh", "-lc", "ls | wc"], "rawCommand": "ls | wc"}),
                true,
            ),
            (json!({"command": ["rm", "-c", "ls"], "rawCommand": "ls"}), false),
            (json!({"command": ["rm", "-rf", "/"], "rawCommand": "ls"}), false),
            (json!({"command": ["ls"], "rawCommand": "  "}), true),
            (json!({"command": ["ls"]}), true),
        ];
        for (fields, fits) in cases {
            let checked = check_text(fields.as_object().expect("an object"));
            assert_eq!(checked.is_ok(), fits, "{fields}");
            if let Err(refused) = checked {
                assert_eq!(refused.detail_code().as_deref(), Some("RAW_COMMAND_MISMATCH"));
            }
        }
    }
}
