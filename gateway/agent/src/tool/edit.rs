//! The tool `edit`: replaces one exact text in a file of the workspace.

use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::json;

use super::workspace::Workspace;
use super::{ToolDescriptor, arguments};
use crate::port::ToolReply;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Args {
    #[serde(alias = "file_path")]
    path: String,
    #[serde(alias = "old_string", alias = "oldString")]
    old_text: String,
    #[serde(alias = "new_string", alias = "newString")]
    new_text: String,
}

pub(super) fn descriptor() -> ToolDescriptor {
    ToolDescriptor {
        name: "edit".into(),
        description: "Replace one exact text in a file of the workspace.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Path in the workspace."},
                "oldText": {"type": "string", "description": "Exactly what is there now, once."},
                "newText": {"type": "string", "description": "What is to stand there."},
            },
            "required": ["path", "oldText", "newText"],
        }),
    }
}

pub(super) fn run(workspace: &Workspace, args: &Json) -> ToolReply {
    let args: Args = match arguments(args) {
        Ok(args) => args,
        Err(reply) => return reply,
    };
    let text = match workspace.read(&args.path) {
        Ok(text) => text,
        Err(error) => return ToolReply::error(error.to_string()),
    };
    let edited = match replaced(&text, &args) {
        Ok(edited) => edited,
        Err(reply) => return reply,
    };
    match workspace.write(&args.path, edited.as_bytes()) {
        Ok(_) => ToolReply::ok(format!("Edited {}.", args.path)),
        Err(error) => ToolReply::error(error.to_string()),
    }
}

fn replaced(text: &str, args: &Args) -> Result<String, ToolReply> {
    if args.old_text.is_empty() {
        return Err(ToolReply::error("oldText is empty; use write for a new file."));
    }
    match text.matches(&args.old_text).count() {
        1 => Ok(text.replacen(&args.old_text, &args.new_text, 1)),
        // An edit that a crash cut off from its answer is asked for again.
        0 if !args.new_text.is_empty() && text.contains(&args.new_text) => Err(ToolReply::ok(
            "Nothing to do: newText is there already, and oldText is not.",
        )),
        0 => Err(ToolReply::error("oldText is not in the file; read it again.")),
        count => Err(ToolReply::error(format!(
            "oldText is {count} times in the file; take more of its surroundings."
        ))),
    }
}
