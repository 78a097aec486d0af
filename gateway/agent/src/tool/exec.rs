//! The tool `exec`: a shell command on the gateway's machine or on a node. Never on another machine than the one that was asked for.

use std::collections::BTreeMap;

use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::json;

use super::{ToolDescriptor, arguments, nodes, untrusted};
use crate::port::{Caller, Exec, ExecHost, ExecRequest, ToolReply};

/// `tools.exec.{host, node}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecDefaults {
    /// Where a command goes when the model does not say.
    pub host: ExecHost,
    /// Whether the gateway's machine may be used at all.
    pub gateway: bool,
}

impl Default for ExecDefaults {
    fn default() -> Self {
        Self {
            host: ExecHost::Gateway,
            gateway: true,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Args {
    command: String,
    #[serde(alias = "cwd")]
    workdir: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(alias = "timeout")]
    timeout_seconds: Option<f64>,
    host: Option<String>,
    node: Option<String>,
}

/// The hosts that can be used now, the default first.
fn hosts(defaults: &ExecDefaults, any_node: bool) -> Vec<&'static str> {
    let mut hosts = Vec::new();
    if defaults.gateway {
        hosts.push("gateway");
    }
    if any_node {
        hosts.push("node");
    }
    if matches!(defaults.host, ExecHost::Node(_)) {
        hosts.reverse();
    }
    hosts
}

pub(super) fn descriptor(defaults: &ExecDefaults, any_node: bool) -> Option<ToolDescriptor> {
    let hosts = hosts(defaults, any_node);
    let default = hosts.first()?;
    let mut parameters = json!({
        "type": "object",
        "properties": {
            "command": {"type": "string", "description": "Shell command to run."},
            "workdir": {"type": "string", "description": "Working folder on that machine."},
            "env": {
                "type": "object", "additionalProperties": {"type": "string"},
                "description": "Environment variables to add.",
            },
            "timeoutSeconds": {"type": "number", "description": "Kill the command after this time."},
            "host": {
                "type": "string", "enum": hosts,
                "description": format!("The gateway's machine, or a node; {default} if left out."),
            },
        },
        "required": ["command"],
    });
    if any_node {
        parameters["properties"]["node"] = json!({
            "type": "string", "description": format!("Which node; implies host node. {}", nodes::WHICH),
        });
    }
    let description = "Run a shell command and return its output and exit code.\n\
        It may wait for the owner's approval. A command is never run on another machine than the one asked for.";
    Some(ToolDescriptor {
        name: "exec".into(),
        description: description.to_owned(),
        parameters,
    })
}

pub(super) async fn run(exec: &dyn Exec, defaults: &ExecDefaults, caller: &Caller, args: &Json) -> ToolReply {
    let args: Args = match arguments(args) {
        Ok(args) => args,
        Err(reply) => return reply,
    };
    let request = match request(args, defaults) {
        Ok(request) => request,
        Err(error) => return ToolReply::error(error),
    };
    let on_node = matches!(request.host, ExecHost::Node(_));
    let mut reply = exec.exec(caller, request).await;
    if on_node {
        reply.text = untrusted::wrapped("node", &reply.text);
    }
    reply
}

fn request(args: Args, defaults: &ExecDefaults) -> Result<ExecRequest, String> {
    if args.command.trim().is_empty() {
        return Err("The command is empty.".to_owned());
    }
    let host = host(args.host.as_deref(), args.node, defaults)?;
    if host == ExecHost::Gateway && !defaults.gateway {
        return Err("Commands on the gateway's machine are not permitted here; name a node.".to_owned());
    }
    let timeout_seconds = match args.timeout_seconds {
        // Any whole number of seconds that a person could mean is far below what the cast can hold.
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => Some(seconds.ceil() as u64),
        Some(_) => return Err("timeoutSeconds must be more than 0.".to_owned()),
        None => None,
    };
    Ok(ExecRequest {
        command: args.command,
        workdir: args.workdir.filter(|workdir| !workdir.is_empty()),
        env: args.env.into_iter().collect(),
        timeout_seconds,
        host,
    })
}

fn host(host: Option<&str>, node: Option<String>, defaults: &ExecDefaults) -> Result<ExecHost, String> {
    let node = node.filter(|node| !node.trim().is_empty());
    let configured = match &defaults.host {
        ExecHost::Node(node) => node.clone(),
        ExecHost::Gateway => None,
    };
    match (host, node) {
        (Some("gateway"), Some(_)) => Err("host is gateway, but a node is named; choose one.".to_owned()),
        (Some("gateway"), None) => Ok(ExecHost::Gateway),
        (Some("node"), node) => Ok(ExecHost::Node(node.or(configured))),
        (None | Some("" | "auto"), Some(node)) => Ok(ExecHost::Node(Some(node))),
        (None | Some("" | "auto"), None) => Ok(defaults.host.clone()),
        (Some(other), _) => Err(format!("There is no host {other:?}; it is gateway or node.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(args: serde_json::Value, defaults: &ExecDefaults) -> Result<ExecHost, String> {
        let args: Args = serde_json::from_value(args).expect("arguments");
        request(args, defaults).map(|request| request.host)
    }

    #[test]
    fn a_command_goes_where_it_was_sent_and_nowhere_else() {
        let gateway = ExecDefaults::default();
        let node = ExecDefaults {
            host: ExecHost::Node(Some("laptop".to_owned())),
            gateway: false,
        };
        let on = |name: &str| Ok(ExecHost::Node(Some(name.to_owned())));
        assert_eq!(asked(json!({"command": "ls"}), &gateway), Ok(ExecHost::Gateway));
        assert_eq!(asked(json!({"command": "ls", "node": "phone"}), &gateway), on("phone"));
        assert_eq!(
            asked(json!({"command": "ls", "host": "node"}), &gateway),
            Ok(ExecHost::Node(None))
        );
        assert_eq!(asked(json!({"command": "ls"}), &node), on("laptop"));
        assert_eq!(asked(json!({"command": "ls", "host": "node"}), &node), on("laptop"));
        assert!(asked(json!({"command": "ls", "host": "gateway"}), &node).is_err());
        assert!(asked(json!({"command": "ls", "host": "gateway", "node": "phone"}), &gateway).is_err());
        assert!(asked(json!({"command": "ls", "host": "sandbox"}), &gateway).is_err());
        assert!(asked(json!({"command": " "}), &gateway).is_err());
    }

    #[test]
    fn a_host_that_cannot_be_used_now_is_not_offered() {
        let hosts_of = |defaults: &ExecDefaults, any_node| {
            descriptor(defaults, any_node).map(|tool| tool.parameters["properties"]["host"]["enum"].clone())
        };
        let gateway = ExecDefaults::default();
        let node_only = ExecDefaults {
            host: ExecHost::Node(None),
            gateway: false,
        };
        assert_eq!(hosts_of(&gateway, false), Some(json!(["gateway"])));
        assert_eq!(hosts_of(&gateway, true), Some(json!(["gateway", "node"])));
        assert_eq!(hosts_of(&node_only, true), Some(json!(["node"])));
        assert_eq!(hosts_of(&node_only, false), None);
    }
}
