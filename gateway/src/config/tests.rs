//! The whole way from text to typed tree.

use std::path::Path;

use secrecy::ExposeSecret;
use serde_json::json;

use super::keys::{Kind, Node, tree};
use super::*;

fn no_env(_: &str) -> Option<String> {
    None
}

fn read(text: &str) -> Result<Loaded, Invalid> {
    load_text(Path::new("atoll.json"), Some(text.to_owned()), &no_env)
}

#[track_caller]
fn good(text: &str) -> Loaded {
    read(text).unwrap_or_else(|invalid| panic!("{invalid}"))
}

#[track_caller]
fn errors(text: &str) -> Vec<String> {
    let invalid = read(text).expect_err("has errors");
    invalid.errors.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_written_is_a_closed_gateway_with_one_agent() {
    let config = good("").config;
    assert_eq!((config.gateway.port, config.gateway.bind), (18789, Bind::Loopback));
    assert_eq!(config.gateway.auth.effective(), AuthMode::Token);
    assert_eq!(config.default_agent().id.as_str(), "main");
    assert_eq!(config.tools.exec.policy(), (ExecSecurity::Allowlist, ExecAsk::OnMiss));
    assert!(config.channels.telegram.is_none());
    assert!(config.models_of(config.default_agent()).is_empty());
}

#[test]
fn the_sample_is_what_holds_anyway() {
    let sample = sample();
    let loaded = good(&sample);
    assert_eq!(loaded.warnings, [], "{sample}");
    assert_eq!(
        format!("{:?}", loaded.config),
        format!("{:?}", good("").config),
        "{sample}"
    );
}

#[test]
fn every_key_of_the_sample_can_be_uncommented() {
    // The lines of the sample, with the comment signs of its values (not of its sentences) taken away.
    let mut lines: Vec<String> = Vec::new();
    for line in sample().lines() {
        let bare = line.trim_start();
        let value = bare.strip_prefix("// ").filter(|rest| {
            let name_end = rest.trim_start().find(':').unwrap_or(0);
            let name = &rest.trim_start()[..name_end];
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "\"<>".contains(c));
            is_name || rest.trim_start().starts_with(['}', ']'])
        });
        lines.push(value.unwrap_or(line).to_owned());
    }
    let text = lines.join("\n");
    let tree: Value = source::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let found = check::check(keys::tree(), &mut tree.clone(), &tree);
    assert_eq!(found.warnings, []);
    let wrong: Vec<_> = found
        .errors
        .iter()
        .filter(|error| !error.message.contains("…"))
        .collect();
    assert_eq!(wrong, Vec::<&Problem>::new());
}

/// A value that is wrong for the kind; `canary` must never be shown for a secret.
fn wrong(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Url | Kind::AgentId => json!(""),
        Kind::Secret => json!(["canary"]),
        Kind::Bool => json!("canary"),
        Kind::Int(..) => json!(0.5),
        Kind::Words(_) => json!("canary"),
        Kind::Texts | Kind::Ids => json!([{}]),
        Kind::Patterns => json!(["("]),
        Kind::Object(_) | Kind::Map | Kind::List => json!(17),
    }
}

fn each_key(node: &Node, path: &mut Vec<String>, visit: &mut dyn FnMut(&Node, &[String])) {
    for child in &node.children {
        path.push(match child.name.as_str() {
            "[]" => "0".to_owned(),
            "*" => "some".to_owned(),
            name => name.to_owned(),
        });
        visit(child, path);
        each_key(child, path, visit);
        path.pop();
    }
}

#[test]
fn every_key_that_is_wrong_is_named_with_what_is_allowed() {
    let mut count = 0;
    each_key(tree(), &mut Vec::new(), &mut |node, path| {
        let text = nested(path, wrong(node.kind)).to_string();
        let invalid = read(&text).err().unwrap_or_else(|| panic!("{text} was taken"));
        let key = check::dotted(path);
        let named = invalid.errors.iter().find(|error| error.key == key);
        let named = named.unwrap_or_else(|| panic!("{key} is not named in {invalid}"));
        let wanted = check::wanted(node.kind);
        assert!(named.message.contains(&wanted), "{named}");
        assert!(
            node.kind != Kind::Secret || !invalid.to_string().contains("canary"),
            "{invalid}"
        );
        count += 1;
    });
    assert!(count > 100, "only {count} keys");
}

fn nested(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, part| match part.as_str() {
        "0" => json!([inner]),
        name => json!({ name: inner }),
    })
}

#[test]
fn every_leaf_wrong_at_once_is_told_at_once() {
    let mut wrongs = json!({});
    let mut expected = Vec::new();
    each_key(tree(), &mut Vec::new(), &mut |node, path| {
        if node.children.is_empty() {
            put(&mut wrongs, path, wrong(node.kind));
            expected.push(check::dotted(path));
        }
    });
    let invalid = read(&wrongs.to_string()).expect_err("has errors");
    let named: Vec<_> = invalid.errors.iter().map(|error| error.key.clone()).collect();
    for key in expected {
        assert!(named.contains(&key), "{key} is not named in {invalid}");
    }
}

fn put(tree: &mut Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *tree = value;
        return;
    };
    let next = match first.parse::<usize>() {
        Ok(_) => {
            if !tree.is_array() {
                *tree = json!([{}]);
            }
            &mut tree[0]
        }
        Err(_) => {
            if !tree.is_object() {
                *tree = json!({});
            }
            &mut tree[first]
        }
    };
    put(next, rest, value);
}

#[test]
fn a_wrong_value_is_quoted_as_written_and_a_secret_never() {
    assert_eq!(
        errors("{gateway: {bind: 'everywhere', auth: {token: 12345}}}"),
        [
            "gateway.bind: \"everywhere\" is not a word known here; allowed: loopback, lan, tailnet, custom, auto",
            "gateway.auth.token: this value is not a text with something in it, best written as \"${NAME}\" of an environment variable",
        ]
    );
    let env = |name: &str| (name == "CANARY").then(|| "canary-value".to_owned());
    let text = "{logging: {level: '${CANARY}'}}".to_owned();
    let invalid = load_text(Path::new("atoll.json"), Some(text), &env).expect_err("has errors");
    assert!(invalid.to_string().contains("\"${CANARY}\" is not"), "{invalid}");
    assert!(!invalid.to_string().contains("canary-value"));
}

#[test]
fn an_unknown_key_warns_and_names_what_was_meant() {
    for (text, expected) in [
        (
            "{gatway: {}}",
            "gatway: is not a known key and has no effect; did you mean gateway?",
        ),
        (
            "{gateway: {Port: 1}}",
            "gateway.Port: is not a known key and has no effect; did you mean gateway.port?",
        ),
        (
            "{channels: {botToken: 'x'}}",
            "channels.botToken: is not a known key and has no effect; did you mean channels.telegram.botToken?",
        ),
        ("{zzzzzzzz: 1}", "zzzzzzzz: is not a known key and has no effect"),
        (
            "{browser: {enabled: true}}",
            "browser: is not supported yet and has no effect",
        ),
        (
            "{channels: {discord: {token: 'x'}}}",
            "channels.discord: is not supported yet and has no effect",
        ),
        (
            "{agents: {entries: {main: {sandbox: {mode: 'all'}}}}}",
            "agents.entries.main.sandbox: is not supported yet and has no effect",
        ),
        (
            "{channels: {telegram: {streaming: 'off'}}}",
            "channels.telegram.streaming: is not supported yet and has no effect",
        ),
    ] {
        let loaded = good(text);
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [expected], "{text}");
    }
}

#[test]
fn agents_can_be_listed_or_named_and_inherit_models() {
    let config = good(
        "{agents: {defaults: {model: {primary: 'a/1', fallbacks: ['a/2', 'a/1']}, timeoutSeconds: 6e2},
          list: [{id: 'ops', model: 'b/1'}, 'plain'], entries: {coder: {model: {primary: 'c/1'}, default: true}}}}",
    )
    .config;
    let ids: Vec<_> = config.agents.list.iter().map(|agent| agent.id.as_str()).collect();
    assert_eq!(ids, ["ops", "plain", "coder"]);
    assert_eq!(config.default_agent().id.as_str(), "coder");
    let models = |index: usize| config.models_of(&config.agents.list[index]);
    assert_eq!(models(0), ["b/1"]);
    assert_eq!(models(1), ["a/1", "a/2"]);
    assert_eq!(models(2), ["c/1", "a/2", "a/1"]);
    assert_eq!(config.timeout_of(&config.agents.list[0]), 600);
}

#[test]
fn what_an_entry_cannot_do_without_is_missed() {
    assert_eq!(
        errors(
            "{agents: {list: [{name: 'x'}]}, bindings: [{match: {}}], models: {providers: {openai: {models: [{}]}}}}"
        ),
        [
            "agents.list[0].id: is missing",
            "bindings[0].agentId: is missing",
            "models.providers.openai.models[0].id: is missing"
        ]
    );
    let error = errors("{agents: {entries: {'../x': {}}}}").join("\n");
    assert!(
        error.starts_with("agents.entries.../x: the name is not an agent's id"),
        "{error}"
    );
}

#[test]
fn the_environment_stands_over_the_file() {
    let env = |name: &str| match name {
        "OPENCLAW_GATEWAY_PORT" => Some("1234".to_owned()),
        "OPENCLAW_GATEWAY_TOKEN" => Some("theirs".to_owned()),
        "ATOLL_GATEWAY_TOKEN" => Some("ours".to_owned()),
        _ => None,
    };
    let text = "{gateway: {port: 1, auth: {token: 'file'}}}".to_owned();
    let config = load_text(Path::new("atoll.json"), Some(text), &env)
        .expect("loads")
        .config;
    assert_eq!(config.gateway.port, 1234);
    let token = config
        .gateway
        .auth
        .token
        .as_ref()
        .map(|token| token.expose_secret().to_owned());
    assert_eq!(token.as_deref(), Some("ours"));
    for (name, value) in [("ATOLL_GATEWAY_PORT", "70000"), ("OPENCLAW_GATEWAY_BIND", "all")] {
        let env = move |asked: &str| (asked == name).then(|| value.to_owned());
        let invalid = load_text(Path::new("atoll.json"), None, &env).expect_err("has errors");
        assert_eq!(invalid.errors[0].key, name);
    }
}

#[test]
fn ids_may_be_numbers() {
    let config = good("{commands: {ownerAllowFrom: [123, 'telegram:5']}}").config;
    assert_eq!(config.commands.owner_allow_from, ["123", "telegram:5"]);
}

#[test]
fn no_secret_is_in_debug_output_nor_in_what_is_shown() {
    let loaded = good(
        "{gateway: {auth: {token: 'canary-token', password: 'canary', mode: 'token'}}, $schema: 'canary',
          models: {providers: {openai: {apiKey: 'canary-key', baseUrl: 'https://h/v1'}}},
          channels: {telegram: {botTokn: 'canary-typo', botToken: 'canary-bot', enabled: false}, discord: {token: 'canary', n: 5}}}",
    );
    assert!(!format!("{loaded:?} {:?}", loaded.config).contains("canary"));
    assert!(!loaded.redacted_text().expect("has text").contains("canary"));
    let shown = loaded.redacted();
    assert!(!shown.to_string().contains("canary"), "{shown}");
    assert_eq!(shown["models"]["providers"]["openai"]["baseUrl"], json!("https://h/v1"));
    assert_eq!(shown["channels"]["telegram"]["botToken"], json!(REDACTED));
}

#[test]
fn what_is_shown_keeps_comments_references_and_what_is_no_secret() {
    let text = "{models: {providers: {openai: {apiKey: '${KEY}', models: [{id: 'm'}]}}}, /* c */ gateway: {auth: {token: 'hush'}}}";
    let env = |name: &str| (name == "KEY").then(|| "canary".to_owned());
    let loaded = load_text(Path::new("atoll.json"), Some(text.to_owned()), &env).expect("loads");
    let expected = text.replace("'hush'", &format!("\"{REDACTED}\""));
    assert_eq!(loaded.redacted_text(), Some(expected));
}

#[test]
fn the_schema_describes_every_key() {
    let schema = schema();
    let port = &schema["properties"]["gateway"]["properties"]["port"];
    assert_eq!(
        port,
        &json!({"type": "integer", "minimum": 1, "maximum": 65535, "description": "The TCP and UDP port.", "default": 18789})
    );
    let agents = &schema["properties"]["agents"]["properties"];
    assert_eq!(agents["list"]["items"]["anyOf"][1]["required"], json!(["id"]));
    assert_eq!(
        agents["entries"]["additionalProperties"]["properties"]["name"]["type"],
        "string"
    );
}

#[test]
fn a_policy_of_answers_and_a_limit_of_guesses_are_read_and_their_faults_are_named() {
    let config = good(
        "{session: {sendPolicy: {default: 'deny', rules: [{action: 'allow', match: {channel: 'telegram', chatType: 'dm'}}]}}, \
         gateway: {auth: {rateLimit: {maxAttempts: 3, lockoutMs: 60000, exemptLoopback: false}}}}",
    )
    .config;
    let main = atoll_protocol::id::SessionKey::new("agent:main:main").expect("a key");
    assert!(!config.session.send_policy.allows(&main, None, None));
    assert!(
        config
            .session
            .send_policy
            .allows(&main, Some("telegram"), Some(MatchKind::Direct))
    );
    let patience = config.gateway.auth.rate_limit.patience();
    assert_eq!(
        (patience.failures, patience.locked.as_secs(), patience.window.as_secs()),
        (3, 60, 60)
    );
    assert!(!patience.exempts_loopback);
    let standard = good("{}").config.gateway.auth.rate_limit.patience();
    assert_eq!(standard, atoll_pairing::lockout::Patience::default());
    for (text, key) in [
        (
            "{session: {sendPolicy: {default: 'maybe'}}}",
            "session.sendPolicy.default",
        ),
        (
            "{session: {sendPolicy: {rules: [{match: {}}]}}}",
            "session.sendPolicy.rules[0].action",
        ),
        (
            "{gateway: {auth: {rateLimit: {maxAttempts: 0}}}}",
            "gateway.auth.rateLimit.maxAttempts",
        ),
    ] {
        let found = errors(text);
        assert!(found.len() == 1 && found[0].starts_with(key), "{text}: {found:?}");
    }
}

#[test]
fn what_openclaw_knows_and_nothing_here_reads_is_warned_about() {
    let loaded = good(
        "{agents: {list: [{id: 'a', agentDir: '/x', identity: {name: 'A', theme: 'calm'}}]}, session: {store: '/y'}, \
         acp: {}, tools: {exec: {mode: 'auto'}}}",
    );
    let keys: Vec<_> = loaded.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(
        keys,
        ["agents.list[0].agentDir", "session.store", "acp", "tools.exec.mode"]
    );
    // What the state folder has in its place is said.
    let said = |key: &str| {
        let found = loaded.warnings.iter().find(|warning| warning.key == key);
        found.map(|warning| warning.message.as_str()).unwrap_or_default()
    };
    assert!(said("agents.list[0].agentDir").contains("--state-dir"));
    assert!(said("session.store").contains("state.db"));
    assert!(said("acp").contains("not supported yet"));
    assert_eq!(
        loaded.config.tools.exec.policy(),
        (ExecSecurity::Allowlist, ExecAsk::OnMiss)
    );
}
