//! The tool `nodes`: what devices there are, what they can do, and one command on one of them. `system.run` goes through `exec`, where
//! it is asked about.

mod action;

use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::{Value, json};

use self::action::{ACTIONS, Plain};
use super::{ToolDescriptor, arguments, untrusted};
use crate::port::{Caller, NodeCommand, Nodes, ToolReply};

/// How a model names a node.
pub(super) const WHICH: &str = "Its name, the beginning of its id, its address, or conditions joined by commas: \
    os=linux, cap=camera, cmd=system.run; with any, one of those that fit.";

/// Actions about the ring, and the one that takes any command.
const OTHERS: [&str; 4] = ["list", "status", "describe", "invoke"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Args {
    action: String,
    node: Option<String>,
    #[serde(alias = "command")]
    invoke_command: Option<String>,
    #[serde(alias = "params")]
    invoke_params_json: Option<Value>,
    #[serde(flatten)]
    plain: Plain,
}

pub(super) fn descriptor() -> ToolDescriptor {
    let description = "List the owner's devices, describe one, or use one: take a picture, film, see its screen, find it, notify, \
        or invoke any command of it.\n\
        Pictures are shown to you, and pictures and clips go to the chat together with your answer by themselves.\n\
        Commands of a shell go through the tool exec with host node.";
    let actions: Vec<_> = OTHERS.iter().chain(&ACTIONS).collect();
    let mut properties = action::properties();
    properties["action"] = json!({"type": "string", "enum": actions});
    properties["node"] = json!({"type": "string", "description": WHICH});
    properties["invokeCommand"] = json!({"type": "string", "description": "For invoke, e.g. device.info."});
    properties["invokeParamsJson"] =
        json!({"type": "string", "description": "For invoke: the parameters, a JSON object as text."});
    ToolDescriptor {
        name: "nodes".into(),
        description: description.to_owned(),
        parameters: json!({"type": "object", "properties": properties, "required": ["action"]}),
    }
}

pub(super) async fn run(nodes: &dyn Nodes, caller: &Caller, args: &Json) -> ToolReply {
    let args: Args = match arguments(args) {
        Ok(args) => args,
        Err(reply) => return reply,
    };
    let action = args.action.as_str();
    if matches!(action, "list" | "status") {
        return told(&nodes.list().await);
    }
    let Some(node) = args.node.as_deref().map(str::trim).filter(|node| !node.is_empty()) else {
        return ToolReply::error("Name the node; the action list shows them.");
    };
    if action == "describe" {
        return match nodes.describe(node).await {
            Ok(node) => told(&node),
            Err(error) => ToolReply::error(error),
        };
    }
    match command(action, &args) {
        Ok(command) => invoke(nodes, caller, node, command).await,
        Err(error) => ToolReply::error(error),
    }
}

fn told(json: &Json) -> ToolReply {
    ToolReply::ok(untrusted::wrapped("nodes", json.as_str()))
}

async fn invoke(nodes: &dyn Nodes, caller: &Caller, node: &str, command: NodeCommand) -> ToolReply {
    let mut reply = nodes.invoke(caller, node, command).await;
    reply.text = untrusted::wrapped("node", &reply.text);
    reply
}

fn command(action: &str, args: &Args) -> Result<NodeCommand, String> {
    if let Some(command) = action::command(action, &args.plain) {
        return command;
    }
    if action != "invoke" {
        let all: Vec<_> = OTHERS.into_iter().chain(ACTIONS).collect();
        return Err(format!(
            "There is no action {action:?}; it is one of {}.",
            all.join(", ")
        ));
    }
    let name = args.invoke_command.as_deref().map(str::trim).unwrap_or_default();
    if name.is_empty() {
        return Err("invokeCommand is missing; the action describe shows a node's commands.".to_owned());
    }
    if name.starts_with("system.run") {
        return Err("Use the tool exec with host node for shell commands.".to_owned());
    }
    Ok(NodeCommand {
        name: name.to_owned(),
        params: params(args.invoke_params_json.as_ref())?,
        timeout: None,
    })
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
