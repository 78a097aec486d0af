//! The policy as a table: what is let through, what asks, and every known way around it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::document::Document;
use super::narrowing::{is_narrowing, room};
use super::*;

/// A program that lies where its name says; a link when `real` is another file.
fn program(asked: &str, real: &str) -> Program {
    let name = asked.rsplit('/').next().unwrap_or(asked);
    let found = if asked.starts_with('/') {
        asked.to_owned()
    } else {
        format!("/usr/bin/{name}")
    };
    Program {
        asked: asked.to_owned(),
        path_name: found.starts_with("/usr/bin/").then(|| name.to_owned()),
        real: if real.is_empty() {
            found.clone()
        } else {
            real.to_owned()
        },
        found,
    }
}

fn document(value: Value) -> Document {
    Document::parse(&value.to_string()).expect("a document")
}

fn listing(rules: Value) -> Document {
    document(json!({"version":1,"agents":{"main":{"allowlist":rules}}}))
}

fn judge(document: &Document, program: &Program, args: &[&str]) -> Verdict {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let request = Request {
        program,
        args: &args,
        cwd: "/home/ann",
        home: Some("/home/ann"),
    };
    evaluate(document, "main", &request)
}

#[test]
fn without_a_document_everything_asks_and_silence_means_no() {
    let policy = Document::default().policy("main");
    assert_eq!(judge(&Document::default(), &program("ls", ""), &[]).word(), "ask");
    assert!(!policy.runs_unanswered(true) && !policy.runs_unanswered(false));
}

#[test]
fn security_and_ask_decide_as_openclaw_documents_them() {
    for (security, ask, listed, missed) in [
        ("deny", "off", "deny", "deny"),
        ("deny", "always", "deny", "deny"),
        ("allowlist", "off", "allow", "deny"),
        ("allowlist", "on-miss", "allow", "ask"),
        ("allowlist", "always", "ask", "ask"),
        ("full", "off", "allow", "allow"),
        ("full", "on-miss", "allow", "allow"),
        ("full", "always", "ask", "ask"),
    ] {
        let defaults = json!({"security":security,"ask":ask});
        let rules = json!({"main":{"allowlist":[{"pattern":"ls"}]}});
        let document = document(json!({"version":1,"defaults":defaults,"agents":rules}));
        assert_eq!(
            judge(&document, &program("ls", ""), &["-l"]).word(),
            listed,
            "{security} {ask}"
        );
        assert_eq!(
            judge(&document, &program("who", ""), &[]).word(),
            missed,
            "{security} {ask}"
        );
    }
}

#[test]
fn an_agents_own_settings_come_before_those_of_all() {
    let document = document(json!({"version":1,
        "defaults":{"security":"deny"},
        "agents":{"*":{"security":"allowlist","allowlist":[{"pattern":"ls"}]},"ops":{"security":"full","ask":"off"}}}));
    assert_eq!(document.policy("ops").security, Security::Full);
    assert_eq!(document.policy("anybody").security, Security::Allowlist);
    assert_eq!(judge(&document, &program("ls", ""), &[]), Verdict::Allow);
}

#[test]
fn a_pattern_covers_what_its_author_meant() {
    for (pattern, asked, real, covered) in [
        ("ls", "ls", "", true),
        ("ls", "/usr/bin/ls", "", true),
        ("ls", "/home/ann/ls", "", false),
        ("l?", "ls", "", true),
        ("/usr/bin/ls", "ls", "", true),
        ("/usr/bin/*", "ls", "", true),
        ("/usr/*", "ls", "", false),
        ("/usr/**", "ls", "", true),
        ("~/bin/*", "/home/ann/bin/tidy", "", true),
        ("~/bin/*", "/home/bob/bin/tidy", "", false),
        ("/opt/tool", "/opt/tool", "/opt/tool-1.2/tool", true),
        // A link in an allowed folder does not make its target allowed.
        ("/home/ann/safe/*", "/home/ann/safe/ok", "/usr/bin/poweroff", false),
        ("/usr/bin/ls", "/home/ann/ls", "", false),
        ("", "ls", "", false),
    ] {
        let mut document = Document::default();
        let rule = serde_json::from_value(json!({ "pattern": pattern })).expect("a rule");
        document.defaults.allowlist = vec![rule];
        let verdict = judge(&document, &program(asked, real), &[]);
        assert_eq!(verdict == Verdict::Allow, covered, "{pattern:?} over {asked:?}");
    }
}

#[test]
fn an_argument_pattern_is_over_all_the_arguments() {
    for (pattern, args, covered) in [
        ("status", &["status"][..], true),
        ("status", &["status", "--porcelain"], false),
        ("status", &["-c", "core.pager=evil", "status"], false),
        (r"log( -\d+)?", &["log", "-5"], true),
        (r"log( -\d+)?", &["log", "-5;reboot"], false),
        ("a|b", &["b"], true),
        ("a|b", &["a", "x"], false),
        (".*", &["a", "b"], true),
        (".*", &["a b"], false),
        (".*", &["a\nb"], false),
        (".*", &[""], false),
        ("", &[], true),
        ("", &["x"], false),
    ] {
        let document = listing(json!([{"pattern":"git","argPattern":pattern}]));
        let verdict = judge(&document, &program("git", ""), args);
        assert_eq!(verdict == Verdict::Allow, covered, "{pattern:?} over {args:?}");
    }
}

#[test]
fn an_exact_rule_covers_one_command_in_one_folder() {
    let ls = program("ls", "");
    let args = ["a b".to_owned(), "c".to_owned()];
    let request = |args, cwd| Request {
        program: &ls,
        args,
        cwd,
        home: None,
    };
    let exact = exact_arguments(&request(&args, "/srv"));
    let document = listing(json!([{"pattern":"/usr/bin/ls","argPattern":exact}]));
    let word = |args, cwd| evaluate(&document, "main", &request(args, cwd)).word();
    assert_eq!(word(&args, "/srv"), "allow");
    assert_eq!(word(&args, "/"), "ask");
    assert_eq!(word(&args[..1], "/srv"), "ask");
    assert_eq!(word(&["a".to_owned(), "b c".to_owned()], "/srv"), "ask");
}

/// Everything is on the allowlist, each program by name, by path and by glob: what still asks is what no rule covers.
#[test]
fn whatever_runs_what_its_arguments_say_always_asks() {
    let document = listing(json!([{"pattern":"*"},{"pattern":"/**"},{"pattern":"*","argPattern":".*"}]));
    let cases: &[(&str, &str, &[&str])] = &[
        ("sh", "", &["-c", "id"]),
        ("bash", "/usr/bin/bash", &["-lc", "id"]),
        ("/bin/dash", "", &["script.sh"]),
        ("zsh5.9", "", &["-c", "id"]),
        ("pwsh", "", &["-EncodedCommand", "aQBkAA=="]),
        ("powershell.exe", "", &["-e", "x"]),
        // Wrappers, at any depth, with options glued, split or abbreviated.
        ("env", "", &["-S", "sh -c id"]),
        ("env", "", &["-Ssh -c id"]),
        ("env", "", &["--split-s=sh -c id"]),
        ("env", "", &["FOO=1", "ls"]),
        ("time", "", &["sh", "-c", "id"]),
        ("nice", "", &["-n", "5", "ls"]),
        ("timeout", "", &["5", "nohup", "env", "sh", "-c", "id"]),
        ("nohup", "", &["ls"]),
        ("stdbuf", "", &["-oL", "ls"]),
        ("flock", "", &["/tmp/l", "-c", "id"]),
        ("setsid", "", &["sh"]),
        ("xargs", "", &["rm"]),
        ("sudo", "", &["ls"]),
        ("watch", "", &["ls"]),
        ("script", "", &["-c", "id"]),
        ("strace", "", &["ls"]),
        // Multi-call programs, also behind a link with a harmless name, and a harmless program behind a shell's name.
        ("busybox", "", &["sh", "-c", "id"]),
        ("busybox-static", "", &["ash"]),
        ("toybox", "", &["sh"]),
        ("ls", "/usr/bin/busybox", &["-l"]),
        ("/home/ann/ls", "/usr/bin/dash", &["-c", "id"]),
        ("/home/ann/sh", "/usr/bin/ls", &["-l"]),
        // Inline code and interactive interpreters.
        ("python3", "/usr/bin/python3.12", &["-c", "import os"]),
        ("python3.12", "", &["-m", "http.server"]),
        ("python3", "", &[]),
        ("python3", "", &["-"]),
        ("python3", "", &["-Ic", "x"]),
        ("perl", "", &["-e", "exec 1"]),
        ("perl5.36.0", "", &["-we1"]),
        ("ruby", "", &["-e", "1"]),
        ("node", "", &["--eval=1"]),
        ("node", "", &["--ev", "1"]),
        ("node", "", &["inspect"]),
        ("php8.2", "", &["-r", "1;"]),
        ("awk", "", &["BEGIN{system(\"id\")}"]),
        ("gawk", "", &["-f", "x"]),
        ("sed", "", &["1e id"]),
        ("vim", "", &["-c", ":!id"]),
        ("less", "", &["file"]),
        ("osascript", "", &["-e", "x"]),
        // Script runners and remote shells.
        ("make", "", &["all"]),
        ("npx", "", &["cowsay"]),
        ("npm", "", &["run", "x"]),
        ("deno", "", &["eval", "1"]),
        ("uvx", "", &["x"]),
        ("cargo", "", &["run"]),
        ("docker", "", &["run", "alpine"]),
        ("ssh", "", &["-oProxyCommand=id", "x"]),
        // The loader.
        ("/lib64/ld-linux-x86-64.so.2", "", &["/bin/sh"]),
        ("/lib/ld-musl-x86_64.so.1", "", &["/bin/sh"]),
    ];
    for (asked, real, args) in cases {
        let verdict = judge(&document, &program(asked, real), args);
        assert_eq!(verdict.word(), "ask", "{asked} {args:?}");
        assert!(
            verdict.reason().is_some_and(|why| why.contains("ask")),
            "{asked}: {verdict:?}"
        );
    }
}

#[test]
fn a_tool_with_an_option_that_starts_programs_needs_a_rule_over_its_arguments() {
    let by_name = listing(json!([{"pattern":"*"},{"pattern":"/**"}]));
    let bound = listing(
        json!([{"pattern":"find","argPattern":r"/srv -name \S+"},{"pattern":"/usr/bin/python3","argPattern":"/opt/tidy.py"}]),
    );
    for args in [&["/", "-exec", "id", ";"][..], &["/srv", "-delete"]] {
        assert_eq!(judge(&by_name, &program("find", ""), args).word(), "ask");
        assert_eq!(judge(&bound, &program("find", ""), args).word(), "ask");
    }
    for (name, arg) in [
        ("tar", "--to-c=id"),
        ("tar", "--checkpoint-act=exec=id"),
        ("sort", "--compress-pr=id"),
        ("git", "log"),
    ] {
        assert_eq!(
            judge(&by_name, &program(name, ""), &[arg]).word(),
            "ask",
            "{name} {arg}"
        );
    }
    assert_eq!(
        judge(&bound, &program("find", ""), &["/srv", "-name", "x"]),
        Verdict::Allow
    );
    assert_eq!(
        judge(&bound, &program("python3", ""), &["/opt/tidy.py"]),
        Verdict::Allow
    );
    assert_eq!(judge(&bound, &program("python3", ""), &["/opt/evil.py"]).word(), "ask");
    assert_eq!(
        judge(&bound, &program("python3", ""), &["-c", "/opt/tidy.py"]).word(),
        "ask"
    );
}

#[test]
fn full_without_asking_runs_a_shell_too() {
    let document = document(json!({"version":1,"defaults":{"security":"full","ask":"off"}}));
    assert_eq!(judge(&document, &program("sh", ""), &["-c", "id"]), Verdict::Allow);
}

#[test]
fn silence_is_answered_by_the_fallback_and_never_beyond_security() {
    for (security, fallback, listed, missed) in [
        ("full", "deny", false, false),
        ("full", "allowlist", true, false),
        ("full", "full", true, true),
        ("allowlist", "full", true, false),
        ("deny", "full", false, false),
    ] {
        let defaults = json!({"security":security,"ask":"always","askFallback":fallback});
        let policy = document(json!({"version":1,"defaults":defaults})).policy("main");
        assert_eq!(
            (policy.runs_unanswered(true), policy.runs_unanswered(false)),
            (listed, missed),
            "{security} {fallback}"
        );
    }
}

#[test]
fn documents_of_openclaw_are_kept_whole() {
    let value = json!({"version":1,"socket":{"path":"/s","token":"t"},
        "defaults":{"security":"allowlist","ask":"on-miss","askFallback":"deny","autoAllowSkills":true},
        "agents":{"main":{"allowlist":[{"pattern":"ls","id":"x","source":"allow-always","lastUsedAt":1}],"mcpTools":["a"]}}});
    assert_eq!(serde_json::to_value(document(value.clone())).expect("writes"), value);
}

#[test]
fn what_widens_is_seen() {
    let base = json!({"version":1,"defaults":{"security":"allowlist","ask":"on-miss"},"agents":{"main":{"allowlist":[{"pattern":"ls"}]}}});
    let cases = [
        ("nothing changes", "/version", json!(1), true),
        ("deny all", "/defaults/security", json!("deny"), true),
        ("full", "/defaults/security", json!("full"), false),
        ("always ask", "/defaults/ask", json!("always"), true),
        ("never ask", "/defaults/ask", json!("off"), true),
        ("no rules", "/agents/main/allowlist", json!([]), true),
        ("another rule", "/agents/main/allowlist/0/pattern", json!("who"), false),
        (
            "a narrower argument",
            "/agents/main/allowlist/0",
            json!({"pattern":"ls","argPattern":"-l"}),
            false,
        ),
        (
            "one agent opened",
            "/agents/main",
            json!({"security":"full","allowlist":[]}),
            false,
        ),
    ];
    for (what, at, value, narrows) in cases {
        let mut new = base.clone();
        *new.pointer_mut(at).expect("exists") = value;
        assert_eq!(is_narrowing(&document(base.clone()), &document(new)), narrows, "{what}");
    }
    let full = document(json!({"version":1,"defaults":{"security":"full","ask":"off"}}));
    assert!(is_narrowing(&full, &document(base)));
    assert!(!is_narrowing(&Document::default(), &full));
    let asks = document(json!({"version":1,"defaults":{"security":"full","ask":"always"}}));
    assert!(
        !is_narrowing(&asks, &listing(json!([{"pattern":"ls"}]))),
        "it asked before ls until now"
    );
    let stranger = document(json!({"version":1,"agents":{"new":{"security":"full"}}}));
    assert!(!is_narrowing(&Document::default(), &stranger));
    let keyed = document(json!({"version":1,"defaults":{"other":1}}));
    assert!(!is_narrowing(&Document::default(), &keyed));
}

fn any_settings() -> impl Strategy<Value = Value> {
    let security = prop_oneof![
        Just(None),
        Just(Some("deny")),
        Just(Some("allowlist")),
        Just(Some("full"))
    ];
    let ask = prop_oneof![
        Just(None),
        Just(Some("off")),
        Just(Some("on-miss")),
        Just(Some("always"))
    ];
    let rule = prop_oneof![
        Just(json!({"pattern":"ls"})),
        Just(json!({"pattern":"who"})),
        Just(json!({"pattern":"sh"})),
        Just(json!({"pattern":"/usr/bin/*"})),
        Just(json!({"pattern":"ls","argPattern":"-l"})),
    ];
    (security.clone(), ask, security, prop::collection::vec(rule, 0..3)).prop_map(|(security, ask, fallback, rules)| {
        let mut settings = json!({ "allowlist": rules });
        for (key, value) in [("security", security), ("ask", ask), ("askFallback", fallback)] {
            if let Some(value) = value {
                settings[key] = json!(value);
            }
        }
        settings
    })
}

fn any_document() -> impl Strategy<Value = Document> {
    let agents = prop::collection::btree_map(prop_oneof!["main", "ops", "\\*"], any_settings(), 0..3);
    (any_settings(), agents)
        .prop_map(|(defaults, agents)| document(json!({"version":1,"defaults":defaults,"agents":agents})))
}

proptest! {
    #[test]
    fn a_narrowing_gives_no_command_of_any_agent_more_room(old in any_document(), new in any_document()) {
        prop_assert!(is_narrowing(&old, &old));
        prop_assume!(is_narrowing(&old, &new));
        for agent in ["main", "ops", "else"] {
            for (name, args) in [("ls", &["-l"][..]), ("ls", &[]), ("who", &[]), ("sh", &["-c", "id"]), ("uname", &[])] {
                let (program, args) = (program(name, ""), args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
                let request = Request { program: &program, args: &args, cwd: "/", home: None };
                let space = |document: &Document| {
                    let policy = document.policy(agent);
                    room(&policy, on_allowlist(&policy, &request).is_ok())
                };
                prop_assert!(space(&new) <= space(&old), "{agent} {name} {args:?}");
            }
        }
    }
}
