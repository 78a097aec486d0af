//! The tools that nodes publish, as far as they may be called now, and the one name of each that models call it by.

use std::collections::HashMap;

use atoll_pairing::access::commands::CommandPolicy;
use atoll_pairing::book::DeviceRecord;
use atoll_protocol::hex;
use atoll_protocol::id::DeviceId;
use atoll_protocol::json::Json;
use atoll_protocol::plugin_tool::{MCP_CALL, McpTool, NAME_CHARS, PluginTool};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Ring;
use crate::hub::LiveNode;

/// Tools of all nodes together that one turn is offered. More: left out, and logged; models take 128 tools in all.
const TOOLS: usize = 96;

/// Their descriptions and schemas together, bytes. More: as for [`TOOLS`]. About a sixth of a large model's window.
const BYTES: usize = 128 * 1024;

/// Hexadecimal digits of what tells names apart that would be the same.
const DIGITS: usize = 6;

/// A tool of an MCP server on a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeTool {
    /// What models call it: `<node>__<server>__<tool>`, at most 64 characters; no other tool has it.
    pub(crate) name: String,
    /// Its node.
    pub(crate) node: DeviceId,
    /// What people call that.
    pub(crate) node_name: String,
    /// Its server and its own name.
    pub(crate) mcp: McpTool,
    /// In the node's words.
    pub(crate) description: String,
    /// JSON Schema of its arguments, in the node's words.
    pub(crate) parameters: Option<Json>,
}

/// What a node publishes and may be called.
pub(super) fn usable<'a>(live: Option<&'a LiveNode>, policy: &CommandPolicy) -> Vec<&'a PluginTool> {
    let tools = live
        .into_iter()
        .flat_map(|live| live.tools.iter().map(move |tool| (live, tool)));
    let is_usable = |live: &LiveNode, tool: &PluginTool| {
        let command = tool.command.as_ref().map(|command| command.as_str());
        command.is_some_and(|command| policy.check(&live.facts, command).is_ok())
    };
    tools
        .filter(|(live, tool)| is_usable(live, tool))
        .map(|(_, tool)| tool)
        .collect()
}

/// As lists show them: without the schemas, which are for whoever asks about one node.
pub(super) fn in_brief(live: Option<&LiveNode>, policy: &CommandPolicy) -> Vec<PluginTool> {
    let brief = |tool: &PluginTool| PluginTool {
        parameters: None,
        ..tool.clone()
    };
    usable(live, policy).into_iter().map(brief).collect()
}

/// A node's row with the schemas too.
pub(super) fn in_full(mut row: Value, live: Option<&LiveNode>, policy: &CommandPolicy) -> Value {
    row["nodePluginTools"] = json!(usable(live, policy));
    row
}

impl Ring {
    /// Every tool of every linked node that may be called now, within the bounds of one turn.
    pub(crate) async fn tools(&self) -> Vec<NodeTool> {
        let is_on = self.config.current().gateway.nodes.plugin_tools.enabled;
        if !is_on || self.hub.nodes().iter().all(|live| live.tools.is_empty()) {
            return Vec::new();
        }
        let policy = self.policy().commands;
        let mut all = Vec::new();
        for (record, live) in self.joined().await {
            let tools = usable(live.as_deref(), &policy).into_iter();
            all.extend(tools.filter_map(|tool| of_mcp(&record, tool)));
        }
        let (tools, left_out) = bounded(named(all));
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "nodes publish more tools than a turn can be offered; the rest is left out"
            );
        }
        tools
    }

    /// Whether a tool is still there to be called.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(crate) fn check_tool(&self, tool: &NodeTool) -> Result<(), String> {
        let live = self.hub.node(tool.node).ok_or_else(|| {
            format!(
                "The tool is gone: its device {:?} is not connected any more.",
                tool.node_name
            )
        })?;
        let is_there = live.tools.iter().any(|now| now.mcp.as_ref() == Some(&tool.mcp));
        is_there.then_some(()).ok_or_else(|| {
            format!(
                "The tool is gone: the device {:?} does not offer it any more.",
                tool.node_name
            )
        })
    }
}

fn of_mcp(record: &DeviceRecord, tool: &PluginTool) -> Option<NodeTool> {
    let is_mcp = tool
        .command
        .as_ref()
        .is_some_and(|command| command.as_str() == MCP_CALL);
    Some(NodeTool {
        name: String::new(),
        node: record.id,
        node_name: record.display_name().to_owned(),
        mcp: tool.mcp.clone().filter(|_| is_mcp)?,
        description: tool.description.to_string(),
        parameters: tool.parameters.clone(),
    })
}

/// Gives each its name. It depends on the tool alone, unless another would have the same: then all of those are told apart by a hash of
/// what they are, so that none can take the place of another.
fn named(mut tools: Vec<NodeTool>) -> Vec<NodeTool> {
    let mut taken: HashMap<String, usize> = HashMap::new();
    for tool in &mut tools {
        tool.name = plain_name(tool);
        *taken.entry(tool.name.to_ascii_lowercase()).or_default() += 1;
    }
    for tool in &mut tools {
        let is_alone = taken.get(&tool.name.to_ascii_lowercase()) == Some(&1);
        if !is_alone || tool.name.len() > NAME_CHARS {
            tool.name = hashed_name(tool);
        }
    }
    tools.sort_by(|one, other| one.name.cmp(&other.name));
    // Six digits of a hash that are the same by chance, or by much work: neither can be told from the other.
    let mut seen = HashMap::<String, usize>::new();
    tools
        .iter()
        .for_each(|tool| *seen.entry(tool.name.to_ascii_lowercase()).or_default() += 1);
    tools.retain(|tool| seen.get(&tool.name.to_ascii_lowercase()) == Some(&1));
    tools
}

fn plain_name(tool: &NodeTool) -> String {
    let [node, server, own] = [&tool.node_name, tool.mcp.server.as_str(), tool.mcp.tool.as_str()].map(word);
    format!("{node}__{server}__{own}")
}

fn hashed_name(tool: &NodeTool) -> String {
    let mut hash = Sha256::new();
    for part in [&tool.node.to_string(), tool.mcp.server.as_str(), tool.mcp.tool.as_str()] {
        hash.update(format!("{part}\0"));
    }
    let digits = hex::encode(&hash.finalize()[..DIGITS / 2]);
    let mut name = plain_name(tool);
    name.truncate(NAME_CHARS - DIGITS - 1);
    format!("{name}_{digits}")
}

/// Letters, digits, `-` and single `_`, so that two of the latter stand between words only.
fn word(text: &(impl AsRef<str> + ?Sized)) -> String {
    let mut word = String::new();
    for c in text.as_ref().chars() {
        match c {
            c if c.is_ascii_alphanumeric() || c == '-' => word.push(c),
            _ if word.ends_with('_') => {}
            _ => word.push('_'),
        }
    }
    match word.trim_matches('_') {
        "" => "x".to_owned(),
        word if word.starts_with(|c: char| c.is_ascii_alphanumeric()) => word.to_owned(),
        word => format!("x{word}"),
    }
}

fn bounded(tools: Vec<NodeTool>) -> (Vec<NodeTool>, usize) {
    let all = tools.len();
    let mut bytes = 0;
    let mut kept = Vec::new();
    for tool in tools {
        let size = tool.description.len() + tool.parameters.as_ref().map_or(0, |json| json.as_str().len());
        if kept.len() < TOOLS && bytes + size <= BYTES {
            bytes += size;
            kept.push(tool);
        }
    }
    let left_out = all - kept.len();
    (kept, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool(node: u8, node_name: &str, server: &str, own: &str) -> NodeTool {
        NodeTool {
            name: String::new(),
            node: DeviceId::from_digest([node; 32]),
            node_name: node_name.to_owned(),
            mcp: Json::from(json!({"server": server, "tool": own}))
                .read()
                .expect("names"),
            description: String::new(),
            parameters: None,
        }
    }

    fn names(tools: Vec<NodeTool>) -> Vec<String> {
        named(tools).into_iter().map(|tool| tool.name).collect()
    }

    #[test]
    fn a_name_says_where_a_tool_is_and_is_one_that_models_take() {
        for (node, server, own, name) in [
            ("laptop", "docs", "read_file", "laptop__docs__read_file"),
            ("Ann's MacBook", "my.docs", "a/b", "Ann_s_MacBook__my_docs__a_b"),
            ("日本", "-", "__x__", "x__x-__x"),
        ] {
            assert_eq!(names(vec![tool(1, node, server, own)]), [name]);
        }
        let long = names(vec![tool(1, "laptop", &"s".repeat(100), "t")]).remove(0);
        assert!(long.len() == NAME_CHARS && long.starts_with("laptop__sss"), "{long}");
    }

    #[test]
    fn no_tool_takes_the_name_of_another() {
        let honest = tool(1, "laptop", "docs", "read");
        let rogue = tool(2, "laptop", "docs", "read");
        let alone = names(vec![honest.clone()]);
        let both = names(vec![honest.clone(), rogue.clone()]);
        assert_eq!(both.len(), 2);
        assert!(
            both.iter().all(|name| !alone.contains(name)),
            "neither is taken for the one there was: {both:?}"
        );
        assert_eq!(both, names(vec![rogue, honest]), "the order does not matter");
        let tricky = vec![
            tool(1, "a", "b_c", "d"),
            tool(1, "a", "b", "c_d"),
            tool(1, "a", "b.c", "d"),
            tool(1, "A", "b", "C_D"),
        ];
        let tricky = names(tricky);
        let distinct: std::collections::HashSet<_> = tricky.iter().map(|name| name.to_ascii_lowercase()).collect();
        assert_eq!(distinct.len(), 4, "{tricky:?}");
    }

    #[test]
    fn a_flood_of_tools_does_not_fill_a_models_window() {
        let many = (0..500)
            .map(|number| tool(1, "n", "s", &format!("t{number:03}")))
            .collect();
        let (kept, left_out) = bounded(named(many));
        assert_eq!((kept.len(), left_out), (TOOLS, 500 - TOOLS));
        let mut large = tool(1, "n", "s", "large");
        large.description = "x".repeat(BYTES);
        large.name = "large".to_owned();
        let (kept, left_out) = bounded(vec![
            large.clone(),
            NodeTool {
                name: "more".to_owned(),
                ..large
            },
        ]);
        assert_eq!((kept.len(), left_out), (1, 1));
    }
}
