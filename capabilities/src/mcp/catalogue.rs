//! From what servers list to what gateways are told: names that models take, each once, and bounds in number and size.

use std::collections::HashSet;
use std::sync::Arc;

use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::Text;
use atoll_protocol::plugin_tool::{MCP_CALL, MCP_PLUGIN, McpTool, NAME_CHARS, PluginTool, kept};
use serde_json::json;

use super::Listed;

/// Tools of one server. More: left out, so that one server does not crowd out the others.
const OF_ONE: usize = 64;

/// What of a name stands for the server, characters.
const SERVER_CHARS: usize = 31;

/// What a description may have, characters: OpenClaw takes no more.
const DESCRIPTION_CHARS: usize = 1024;

/// What is published, and the names of what is not, with the reason.
pub(super) fn of<'a>(
    servers: impl Iterator<Item = (&'a str, Arc<[Listed]>)>,
) -> (Vec<PluginTool>, Vec<(String, &'static str)>) {
    let (mut tools, mut left_out, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    for (server, listed) in servers {
        // In the order of names, so that a name that had to give way stays the same.
        let mut listed: Vec<_> = listed.iter().collect();
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        for (index, tool) in listed.into_iter().enumerate() {
            match published(server, tool, &mut names) {
                Some(tool) if index < OF_ONE => tools.push(tool),
                Some(_) => left_out.push((tool.name.clone(), "its server has too many tools")),
                None => left_out.push((tool.name.clone(), "it has no name")),
            }
        }
    }
    let (tools, beyond) = kept(tools);
    left_out.extend(beyond);
    (tools, left_out)
}

fn published(server: &str, tool: &Listed, names: &mut HashSet<String>) -> Option<PluginTool> {
    let description = match plain(&tool.description) {
        text if text.is_empty() => plain(&tool.name),
        text => text,
    };
    let schema = match tool.schema.is_object() {
        true => Json::from(&tool.schema),
        false => Json::from(json!({"type": "object"})),
    };
    Some(PluginTool {
        plugin_id: Text::new(MCP_PLUGIN)?,
        name: Text::new(free_name(&base_name(server, &tool.name), names))?,
        description: Text::new(description).or_else(|| Text::new("An MCP tool"))?,
        parameters: Some(schema),
        command: Text::new(MCP_CALL),
        mcp: Some(McpTool {
            server: Text::new(server)?,
            tool: Text::new(tool.name.as_str()).filter(|name| name.as_str().len() <= limits::ID_CHARS)?,
        }),
    })
}

fn base_name(server: &str, tool: &str) -> String {
    let server = plain_word(server, "mcp");
    let server = &server[..server.len().min(SERVER_CHARS)];
    let mut name = format!("{server}_{}", plain_word(tool, "tool"));
    name.truncate(NAME_CHARS);
    name
}

/// Letters, digits, `_` and `-`, a letter first.
fn plain_word(text: &str, instead: &str) -> String {
    let mut word = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => word.push(c),
            _ if word.ends_with('_') => {}
            _ => word.push('_'),
        }
    }
    match word.trim_matches(['_', '-']) {
        "" => instead.to_owned(),
        word if word.starts_with(|c: char| c.is_ascii_alphabetic()) => word.to_owned(),
        word => format!("{instead}_{word}"),
    }
}

/// The name, or the name with a number where it is taken.
fn free_name(base: &str, names: &mut HashSet<String>) -> String {
    let mut name = base.to_owned();
    let mut number = 2;
    while !names.insert(name.to_ascii_lowercase()) {
        let suffix = format!("_{number}");
        name = format!("{}{suffix}", &base[..base.len().min(NAME_CHARS - suffix.len())]);
        number += 1;
    }
    name
}

/// One line without characters that cannot be seen.
fn plain(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let text: String = visible.filter(|c| !c.is_control()).take(DESCRIPTION_CHARS).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Arc<[Listed]> {
        let tool = |name: &&str| Listed {
            name: (*name).to_owned(),
            description: "Does\nit.\u{7}".to_owned(),
            schema: json!({"type": "object"}),
        };
        names.iter().map(tool).collect()
    }

    fn names(servers: &[(&str, &[&str])]) -> Vec<String> {
        let (tools, _) = of(servers.iter().map(|(server, tools)| (*server, listed(tools))));
        tools.iter().map(|tool| tool.name.to_string()).collect()
    }

    #[test]
    fn names_are_made_fit_for_models_and_each_is_there_once() {
        for (server, tool, name) in [
            ("docs", "read", "docs_read"),
            ("my docs!", "a.b/c", "my_docs_a_b_c"),
            ("1", "2", "mcp_1_tool_2"),
            ("ü", "é", "mcp_tool"),
            (
                &"s".repeat(80),
                &"t".repeat(80),
                &format!("{}_{}", "s".repeat(31), "t".repeat(32)),
            ),
        ] {
            assert_eq!(names(&[(server, &[tool])]), [name]);
        }
        assert_eq!(
            names(&[("a", &["b c", "b.c", "B c"]), ("a_b", &["c"])]),
            ["a_B_c", "a_b_c_2", "a_b_c_3", "a_b_c_4"]
        );
    }

    #[test]
    fn a_server_with_too_many_tools_leaves_room_for_the_others() {
        let flood: Vec<String> = (0..1000).map(|number| format!("t{number:04}")).collect();
        let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
        let (tools, left_out) = of([("a", listed(&flood)), ("b", listed(&["x", ""]))].into_iter());
        assert_eq!(tools.len(), OF_ONE + 1);
        assert_eq!(tools.last().expect("some").name.as_str(), "b_x");
        assert_eq!(left_out.len(), 1000 - OF_ONE + 1);
        assert_eq!(tools[0].description.as_str(), "Does it.");
    }
}
