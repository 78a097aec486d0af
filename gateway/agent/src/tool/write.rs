//! The tool `write`: a whole file of the workspace.

use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::json;

use super::workspace::Workspace;
use super::{ToolDescriptor, arguments};
use crate::port::ToolReply;

#[derive(Deserialize)]
struct Args {
    #[serde(alias = "file_path")]
    path: String,
    content: String,
}

pub(super) fn descriptor() -> ToolDescriptor {
    ToolDescriptor {
        name: "write".into(),
        description: "Write a whole file of the workspace, making its folders.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Path in the workspace."},
                "content": {"type": "string", "description": "The whole new content."},
            },
            "required": ["path", "content"],
        }),
    }
}

pub(super) fn run(workspace: &Workspace, args: &Json) -> ToolReply {
    let args: Args = match arguments(args) {
        Ok(args) => args,
        Err(reply) => return reply,
    };
    match workspace.write(&args.path, args.content.as_bytes()) {
        Ok(Some(before)) => ToolReply::ok(format!(
            "Wrote {} bytes to {} (it had {before}).",
            args.content.len(),
            args.path
        )),
        Ok(None) => ToolReply::ok(format!("Wrote {} bytes to {} (new).", args.content.len(), args.path)),
        Err(error) => ToolReply::error(error.to_string()),
    }
}
