//! Tools that a node publishes beside its commands: their shape, which is OpenClaw's, and how many and how large they may be. Both ends
//! hold themselves to [`kept`], so that a gateway takes what a node of ours sends.

use std::collections::HashSet;

use crate::json::Json;
use crate::limits;
use crate::method::Text;
use crate::strict::closed;

/// Calls a tool of a server of the Model Context Protocol on a node: `{server, tool, arguments?}`.
pub const MCP_CALL: &str = "mcp.tools.call.v1";

/// Whose the tools of such servers are.
pub const MCP_PLUGIN: &str = "node-mcp";

/// The longest name of a tool, for models and for OpenClaw.
pub const NAME_CHARS: usize = 64;

closed! {
    /// One tool.
    #[derive(PartialEq, Eq)]
    pub struct PluginTool {
        /// What it belongs to on the node, e.g. [`MCP_PLUGIN`].
        plugin_id: Text,
        /// A letter, then letters, digits, `_` and `-`; [`NAME_CHARS`] at most.
        name: Text,
        /// What it is for, in the node's words.
        description: Text;
        /// JSON Schema of its arguments.
        parameters?: Json,
        /// The command that calls it.
        command?: Text,
        /// Where it comes from, for [`MCP_CALL`].
        mcp?: McpTool,
    }

    /// A tool of an MCP server.
    #[derive(PartialEq, Eq)]
    pub struct McpTool {
        /// What the node's owner calls the server.
        server: Text,
        /// What the server calls the tool.
        tool: Text;
    }
}

impl PluginTool {
    /// Why it can be of no use to anybody.
    ///
    /// # Errors
    /// A few words.
    pub fn check(&self) -> Result<(), &'static str> {
        let parameters = self.parameters.as_ref().map_or("{}", Json::as_str);
        if !is_name(self.name.as_str()) {
            return Err("its name is not a letter followed by letters, digits, _ and -");
        }
        if parameters.len() > limits::PLUGIN_TOOL_SCHEMA {
            return Err("the schema of its arguments is too large");
        }
        if !parameters.trim_start().starts_with('{') {
            return Err("the schema of its arguments is not an object");
        }
        if self.description.as_str().len() > limits::PLUGIN_TOOL_TEXT {
            return Err("its description is too long");
        }
        let mcp = self.mcp.as_ref();
        let longest = mcp.map_or(0, |mcp| mcp.server.as_str().len().max(mcp.tool.as_str().len()));
        if longest.max(self.plugin_id.as_str().len()) > limits::ID_CHARS {
            return Err("a name in it is too long");
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.parameters.as_ref().map_or(0, |json| json.as_str().len())
            + self.description.as_str().len()
            + 2 * limits::ID_CHARS
    }
}

/// Whether models and OpenClaw take this as the name of a tool.
pub fn is_name(name: &str) -> bool {
    name.len() <= NAME_CHARS
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Those that are within the limits, in their order, and the names of the others with the reason.
pub fn kept(tools: Vec<PluginTool>) -> (Vec<PluginTool>, Vec<(String, &'static str)>) {
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    for tool in tools {
        let key = (tool.plugin_id.to_string(), tool.name.as_str().to_ascii_lowercase());
        let why = tool.check().err().or_else(|| {
            if kept.len() >= limits::PLUGIN_TOOLS {
                Some("the node has too many tools")
            } else if bytes + tool.bytes() > limits::PLUGIN_TOOL_BYTES {
                Some("the node's tools are too large together")
            } else if !seen.insert(key) {
                Some("its name is taken")
            } else {
                None
            }
        });
        match why {
            Some(why) => left_out.push((tool.name.to_string(), why)),
            None => {
                bytes += tool.bytes();
                kept.push(tool);
            }
        }
    }
    (kept, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tool(changes: Value) -> PluginTool {
        let mut tool = json!({"pluginId": MCP_PLUGIN, "name": "s_t", "description": "d", "command": MCP_CALL,
            "mcp": {"server": "s", "tool": "t"}});
        for (name, value) in changes.as_object().expect("an object") {
            tool[name] = value.clone();
        }
        Json::from(&tool).read().expect("a tool")
    }

    #[test]
    fn what_is_of_no_use_is_left_out_with_the_reason() {
        let long = "x".repeat(limits::PLUGIN_TOOL_SCHEMA);
        for (changes, word) in [
            (json!({"name": "1a"}), "name"),
            (json!({"name": "a b"}), "name"),
            (json!({"name": "a".repeat(65)}), "name"),
            (json!({"parameters": {"description": long}}), "schema"),
            (json!({"parameters": [1]}), "object"),
            (
                json!({"description": "x".repeat(limits::PLUGIN_TOOL_TEXT + 1)}),
                "description",
            ),
            (json!({"mcp": {"server": "s".repeat(300), "tool": "t"}}), "too long"),
        ] {
            let (kept, left_out) = kept(vec![tool(changes.clone()), tool(json!({"name": "good"}))]);
            assert_eq!(kept.len(), 1, "{changes}");
            assert!(left_out[0].1.contains(word), "{changes}: {left_out:?}");
        }
    }

    #[test]
    fn they_are_bounded_in_number_in_size_and_by_name() {
        let many = (0..200).map(|number| tool(json!({"name": format!("t{number}")})));
        let (kept_tools, left_out) = kept(many.collect());
        assert_eq!(
            (kept_tools.len(), left_out.len()),
            (limits::PLUGIN_TOOLS, 200 - limits::PLUGIN_TOOLS)
        );
        let schema = json!({"description": "x".repeat(limits::PLUGIN_TOOL_SCHEMA / 2)});
        let large = (0..100).map(|number| tool(json!({"name": format!("t{number}"), "parameters": schema})));
        let (kept_tools, left_out) = kept(large.collect());
        assert!(
            kept_tools.len() < 50 && left_out[0].1.contains("together"),
            "{}",
            kept_tools.len()
        );
        let (kept_tools, left_out) = kept(vec![tool(json!({})), tool(json!({"name": "S_T"}))]);
        assert_eq!((kept_tools.len(), left_out[0].1), (1, "its name is taken"));
    }
}
