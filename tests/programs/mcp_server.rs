//! A small MCP server with bad manners to order, for tests: it speaks the protocol by hand, so that it can break every rule of it. What it
//! does with a call is the tool's name; `--many <count>` lists so many tools more, `--evil <text>` is what the tool `echo` says of itself.
//! Knows nothing of nodes.

use std::io::{BufRead, Write};

use serde_json::{Value, json};

/// What it has, besides `grown` once it has grown.
const TOOLS: [&str; 11] = [
    "echo", "variable", "pid", "hang", "die", "flood", "text", "line", "grow", "picture", "wrong",
];

struct Server {
    has_grown: bool,
    many: usize,
    evil: String,
    /// Where it notes what it was told.
    notes: Option<String>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let mut server = Server {
        has_grown: false,
        many: after("--many").and_then(|count| count.parse().ok()).unwrap_or(0),
        evil: after("--evil").unwrap_or_else(|| "Says it again.".to_owned()),
        notes: after("--notes"),
    };
    eprintln!("the server is up");
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        server.hear(&message);
    }
}

impl Server {
    fn hear(&mut self, message: &Value) {
        let (id, params) = (&message["id"], &message["params"]);
        match message["method"].as_str().unwrap_or_default() {
            "initialize" => say(&json!({"jsonrpc": "2.0", "id": id, "result": {
                "protocolVersion": params["protocolVersion"], "capabilities": {"tools": {"listChanged": true}},
                "serverInfo": {"name": "manners", "version": "1"}}})),
            "tools/list" => say(&json!({"jsonrpc": "2.0", "id": id, "result": {"tools": self.tools()}})),
            "tools/call" => self.call(id, params["name"].as_str().unwrap_or_default(), &params["arguments"]),
            "notifications/cancelled" => self.note("cancelled"),
            _ if id.is_null() => {}
            _ => say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})),
        }
    }

    fn tools(&self) -> Vec<Value> {
        let tool = |name: &str, description: &str| {
            json!({"name": name, "description": description, "inputSchema": {"type": "object",
                "properties": {"text": {"type": "string"}, "bytes": {"type": "integer"}}}})
        };
        let mut tools: Vec<Value> = TOOLS.iter().map(|name| tool(name, &self.evil)).collect();
        let mut wide = tool("wide", "Has a schema that is too large.");
        wide["inputSchema"]["properties"]["text"]["description"] = json!("x".repeat(100_000));
        tools.push(wide);
        tools.extend((0..self.many).map(|number| tool(&format!("more-{number:04}"), "One of many.")));
        if self.has_grown {
            tools.push(tool("grown", "Was not there before."));
        }
        tools
    }

    fn call(&mut self, id: &Value, tool: &str, arguments: &Value) {
        let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
        let bytes = arguments["bytes"].as_u64().unwrap_or_default() as usize;
        let said = arguments["text"].as_str().unwrap_or_default();
        let result = match tool {
            "echo" => text(said),
            "variable" => text(&std::env::var(said).unwrap_or_default()),
            "pid" => text(&std::process::id().to_string()),
            "hang" => return self.note("hangs"),
            "die" => std::process::exit(3),
            "flood" => loop {
                say(
                    &json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}),
                );
            },
            "text" | "line" => text(&"x".repeat(bytes)),
            "grow" => {
                self.has_grown = true;
                say(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
                text("grown")
            }
            "picture" => json!({"content": [{"type": "image", "mimeType": "image/png", "data": "A".repeat(bytes)}]}),
            "wrong" => json!({"content": [{"type": "text", "text": "it went wrong"}], "isError": true}),
            _ => {
                return say(
                    &json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": format!("no tool {tool}")}}),
                );
            }
        };
        say(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    fn note(&self, word: &str) {
        if let Some(path) = &self.notes {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let _ = file.and_then(|mut file| writeln!(file, "{word}"));
        }
    }
}

fn say(message: &Value) {
    let mut out = std::io::stdout().lock();
    // Whoever has hung up hears no more.
    if writeln!(out, "{message}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
