//! The tool `nodes`: what devices there are, what they can do, and one command on one of them. `system.run` goes through `exec`, where
//! it is asked about.

use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ToolDescriptor, arguments, untrusted};
use crate::port::{Caller, Nodes, ToolReply};

/// How a model names a node.
pub(super) const WHICH: &str = "Its name, the beginning of its id, its address, or conditions joined by commas: \
    os=linux, cap=camera, cmd=system.run; with any, one of those that fit.";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Args {
    action: String,
    node: Option<String>,
    #[serde(alias = "command")]
    invoke_command: Option<String>,
    #[serde(alias = "params")]
    invoke_params_json: Option<Value>,
}

pub(super) fn descriptor() -> ToolDescriptor {
    let description = "List the owner's devices, describe one, or invoke a command on one.\n\
        Commands of a shell go through the tool exec with host node.";
    ToolDescriptor {
        name: "nodes",
        description: description.to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "action": {"type": "string", "enum": ["list", "status", "describe", "invoke"]},
                "node": {"type": "string", "description": WHICH},
                "invokeCommand": {"type": "string", "description": "For invoke, e.g. device.info."},
                "invokeParamsJson": {"type": "string", "description": "For invoke: the parameters, a JSON object as text."},
            },
            "required": ["action"],
        }),
    }
}

pub(super) async fn run(nodes: &dyn Nodes, caller: &Caller, args: &Json) -> ToolReply {
    let args: Args = match arguments(args) {
        Ok(args) => args,
        Err(reply) => return reply,
    };
    let node = args.node.as_deref().map(str::trim).filter(|node| !node.is_empty());
    match (args.action.as_str(), node) {
        ("list" | "status", _) => told(&nodes.list().await),
        ("describe", Some(node)) => match nodes.describe(node).await {
            Ok(node) => told(&node),
            Err(error) => ToolReply::error(error),
        },
        ("invoke", Some(node)) => invoke(nodes, caller, node, &args).await,
        ("describe" | "invoke", None) => ToolReply::error("Name the node; the action list shows them."),
        (other, _) => ToolReply::error(format!(
            "There is no action {other:?}; it is list, status, describe or invoke."
        )),
    }
}

fn told(json: &Json) -> ToolReply {
    ToolReply::ok(untrusted::wrapped("nodes", json.as_str()))
}

async fn invoke(nodes: &dyn Nodes, caller: &Caller, node: &str, args: &Args) -> ToolReply {
    let command = args.invoke_command.as_deref().map(str::trim).unwrap_or_default();
    if command.is_empty() {
        return ToolReply::error("invokeCommand is missing; the action describe shows a node's commands.");
    }
    if command.starts_with("system.run") {
        return ToolReply::error("Use the tool exec with host node for shell commands.");
    }
    let params = match params(args.invoke_params_json.as_ref()) {
        Ok(params) => params,
        Err(error) => return ToolReply::error(error),
    };
    let mut reply = nodes.invoke(caller, node, command, params).await;
    reply.text = untrusted::wrapped("node", &reply.text);
    reply
}

/// JSON as text is what the schema asks for; some models send the object itself.
fn params(given: Option<&Value>) -> Result<Option<Json>, String> {
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => Json::parse(text)
            .map(Some)
            .map_err(|error| format!("invokeParamsJson is not JSON: {error}.")),
        Some(value @ Value::Object(_)) => Ok(Some(Json::from(value))),
        Some(_) => Err("invokeParamsJson must be a JSON object as text.".to_owned()),
    }
}
