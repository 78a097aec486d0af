//! The tool `read`: a part of a text file of the workspace.

use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::json;

use super::workspace::Workspace;
use super::{ToolDescriptor, arguments};
use crate::port::ToolReply;

/// Lines of one answer, if the model does not ask for fewer.
const LINES: usize = 2_000;
/// Characters of one answer; the bound of all tools would cut its middle out.
const CHARACTERS: usize = 28_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Args {
    #[serde(alias = "file_path")]
    path: String,
    /// The first line, counted from 1.
    offset: Option<usize>,
    limit: Option<usize>,
}

pub(super) fn descriptor() -> ToolDescriptor {
    ToolDescriptor {
        name: "read".into(),
        description: "Read a text file of the workspace.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Path in the workspace."},
                "offset": {"type": "integer", "minimum": 1, "description": "First line, counted from 1."},
                "limit": {"type": "integer", "minimum": 1, "description": "Number of lines."},
            },
            "required": ["path"],
        }),
    }
}

pub(super) fn run(workspace: &Workspace, args: &Json) -> ToolReply {
    let args: Args = match arguments(args) {
        Ok(args) => args,
        Err(reply) => return reply,
    };
    match workspace.read(&args.path) {
        Ok(text) => part(
            &text,
            args.offset.unwrap_or(1).max(1),
            args.limit.unwrap_or(LINES).clamp(1, LINES),
        ),
        Err(error) => ToolReply::error(error.to_string()),
    }
}

fn part(text: &str, first: usize, limit: usize) -> ToolReply {
    let total = text.lines().count();
    if first > total && total > 0 {
        return ToolReply::error(format!("The file has {total} lines."));
    }
    let mut shown = String::new();
    let mut characters = 0;
    let mut next = first;
    for line in text.split_inclusive('\n').skip(first - 1).take(limit) {
        characters += line.chars().count();
        if characters > CHARACTERS && next > first {
            break;
        }
        shown.push_str(line);
        next += 1;
    }
    if next <= total {
        shown.push_str(&format!(
            "\n[Lines {first} to {} of {total}; go on with offset {next}.]",
            next - 1
        ));
    }
    ToolReply::ok(shown)
}
