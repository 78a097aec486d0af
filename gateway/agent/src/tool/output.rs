//! Bounds what a tool's output takes of the model's window. What is left out is written to the workspace, where `read` finds it.

use std::sync::Arc;

use super::workspace::Workspace;
use crate::port::ToolReply;

/// Characters that a model is shown of one result. More: head and tail, a note in between.
const SHOWN: usize = 30_000;
/// Of those, from the beginning.
const HEAD: usize = 20_000;
/// Where whole outputs go.
const FOLDER: &str = ".atoll/output";
/// Whole outputs that are kept. More: the oldest goes.
const KEPT: usize = 50;

pub(super) async fn bounded(reply: ToolReply, workspace: Option<Arc<Workspace>>, call: &str) -> ToolReply {
    let count = reply.text.chars().count();
    if count <= SHOWN {
        return reply;
    }
    let head: String = reply.text.chars().take(HEAD).collect();
    let tail: String = reply.text.chars().skip(count - (SHOWN - HEAD)).collect();
    let place = spill(reply.text, workspace, call).await;
    let note = match place {
        Some(path) => format!("whole output: {path}, see it with the tool read and an offset"),
        None => "the whole output was not kept".to_owned(),
    };
    let left_out = count - SHOWN;
    ToolReply {
        text: format!("{head}\n\n[… {left_out} characters left out; {note} …]\n\n{tail}"),
        ..reply
    }
}

async fn spill(text: String, workspace: Option<Arc<Workspace>>, call: &str) -> Option<String> {
    let workspace = workspace?;
    let path = format!("{FOLDER}/{call}.txt");
    let written = tokio::task::spawn_blocking(move || {
        workspace.write(&path, text.as_bytes()).ok()?;
        workspace.keep_newest(FOLDER, KEPT);
        Some(path)
    });
    written.await.ok().flatten()
}
