//! `system.run.prepare`: what would run, spelled out for the person who approves it. Starts nothing.

use std::path::Path;

use atoll_protocol::json::Json;
use serde_json::{Value, json};

use super::gate::Candidate;
use super::{environment, program};
use crate::exec_policy::document::Document;
use crate::exec_policy::launcher::{Demand, demand};
use crate::exec_policy::{evaluate, exact_arguments};
use atoll_protocol::hex;

/// The answer: OpenClaw's plan, and beside it what our own gateway signs. Blocks on the disk.
///
/// # Errors
/// A sentence: a file that decides what runs cannot be read.
pub(crate) fn prepare(candidate: &Candidate, document: &Document) -> Result<Json, String> {
    let params = &candidate.params;
    let policy = document.policy(params.agent());
    let verdict = evaluate(document, params.agent(), &candidate.request());
    let hashes = candidate.hashes()?;
    let file =
        |file: &atoll_protocol::plan::FileHash| json!({ "path": file.path, "sha256": hex::encode(&file.sha256) });
    let mut plan = json!({
        "argv": candidate.argv(),
        "cwd": candidate.cwd,
        "commandText": program::spell(&params.command),
        "commandPreview": preview(candidate),
        "agentId": params.agent_id,
        "sessionKey": params.session_key,
        "policySnapshot": policy,
    });
    // The program is argument 0; what an interpreter or a wrapper reads comes after it.
    if let Some((place, script)) = hashes.iter().next_back().filter(|(place, _)| **place > 0) {
        plan["mutableFileOperand"] = file(script);
        plan["mutableFileOperand"]["argvIndex"] = json!(place);
    }
    Ok(Json::from(json!({
        "plan": plan,
        "execPolicy": { "security": policy.security, "ask": policy.ask },
        "allowAlwaysCoverage": coverage(candidate),
        "files": hashes.values().map(file).collect::<Vec<_>>(),
        "envSha256": hex::encode(&environment::sha256(&candidate.env())),
        "verdict": verdict.word(),
        "reason": verdict.reason(),
    })))
}

/// The text of `sh -c`, which the whole command line hides behind quotes.
fn preview(candidate: &Candidate) -> Option<String> {
    let [shell, option, text] = candidate.params.command.as_slice() else {
        return None;
    };
    let name = Path::new(shell).file_name()?.to_str()?;
    let is_shell_text = name.ends_with("sh") && option.starts_with('-') && option.ends_with('c');
    is_shell_text.then(|| program::spell(std::slice::from_ref(text)))
}

/// The rule that would let exactly this command through from now on, where a rule can.
fn coverage(candidate: &Candidate) -> Value {
    let request = candidate.request();
    match demand(request.program, request.args) {
        Demand::Never(_) => json!({ "complete": false, "patterns": [] }),
        Demand::Nothing | Demand::Arguments => json!({
            "complete": true,
            "patterns": [{ "pattern": request.program.real, "argPattern": exact_arguments(&request) }],
        }),
    }
}
