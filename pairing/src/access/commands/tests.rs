//! Platforms by their labels, and what each lets through.

use std::sync::Arc;

use atoll_protocol::id::{AgentId, DeviceId, SessionKey};

use super::*;
use crate::access::{Door, InvokeCommand, Policy, Principal, decide};

fn client(id: &str, platform: &str, family: &str) -> ClientInfo {
    ClientInfo {
        id: id.into(),
        platform: platform.into(),
        device_family: family.into(),
        ..ClientInfo::default()
    }
}

fn surface(caps: &[&str], commands: &[&str]) -> Surface {
    Surface {
        caps: caps.iter().map(|&cap| cap.to_owned()).collect(),
        commands: commands.iter().map(|&command| command.to_owned()).collect(),
        ..Surface::default()
    }
}

fn facts(client: &ClientInfo, commands: &[&str]) -> NodeFacts {
    NodeFacts::new(client, surface(&[], commands), surface(&[], commands))
}

/// What the real node of release 2026.9.6 declared on Linux.
const REAL_NODE: &[&str] = &[
    "browser.proxy",
    "browser.proxy.upload.v1",
    "desktop.stream",
    "dir.fetch",
    "dir.list",
    "file.create",
    "file.fetch",
    "file.stat",
    "file.write",
    "fs.listDir",
    "mcp.tools.call.v1",
    "ollama.chat",
    "ollama.models",
    "system.execApprovals.get",
    "system.execApprovals.set",
    "system.run",
    "system.run.prepare",
    "system.which",
    "terminal.upload",
    "workspace.memory",
    "workspace.skills",
];

#[test]
fn a_platform_is_two_claims_that_agree() {
    for (platform, family, expected) in [
        ("linux", "Linux", Platform::Linux),
        ("linux", "", Platform::Linux),
        ("linux", "linux", Platform::Linux),
        ("linux", "Mac", Platform::Unknown),
        ("linux 6.1", "Linux", Platform::Unknown),
        ("macos", "Mac", Platform::Macos),
        ("macOS 26.1", "Mac", Platform::Macos),
        ("macOS 26.1", "Linux", Platform::Unknown),
        ("Android 16 (SDK 36)", "Android", Platform::Android),
        ("android", "", Platform::Android),
        ("iOS 19.0.1", "iPhone", Platform::Ios),
        ("", "Windows", Platform::Windows),
        ("", "", Platform::Unknown),
        ("beos", "Linux", Platform::Unknown),
    ] {
        assert_eq!(Platform::of(platform, family), expected, "{platform:?} {family:?}");
    }
}

#[test]
fn thirteen_of_the_real_nodes_commands_are_put_to_a_person() {
    let node = client("node-host", "linux", "Linux");
    let caps = ["browser", "file", "local-inference", "mcp", "system"];
    let offered = CommandPolicy::default().offerable(&node, &surface(&caps, REAL_NODE), &BTreeSet::new());
    assert_eq!(offered.commands.len(), 13);
    assert!(offered.commands.iter().all(|command| {
        !["dir", "file", "workspace"]
            .iter()
            .any(|family| belongs(command, family))
    }));
    assert_eq!(offered.caps, caps, "none of these is dropped for want of commands");
}

#[test]
fn the_refusal_of_a_command_has_the_words_that_clients_show() {
    let node = client("node-host", "linux", "Linux");
    let policy = CommandPolicy::default();
    let error = policy
        .check(&facts(&node, &["device.info"]), "device.info")
        .expect_err("withheld")
        .to_wire();
    assert_eq!(
        error.message,
        "node command not allowed: \"device.info\" is not in the allowlist for platform \"linux\""
    );
    assert_eq!(
        error.details.expect("details").tree(),
        json!({"reason": "command not allowlisted", "command": "device.info"})
    );
    let bar = |facts: &NodeFacts, command| match policy.check(facts, command).expect_err("withheld") {
        CommandDenied::NotAllowed { bar, .. } => bar,
        other @ (CommandDenied::ApprovalsFile(_) | CommandDenied::WrongDoor(_) | CommandDenied::Agent(_)) => {
            panic!("{other}")
        }
    };
    assert_eq!(bar(&facts(&node, &[]), "location.get"), CommandBar::NothingDeclared);
    assert_eq!(
        bar(&facts(&node, &["system.run"]), "location.get"),
        CommandBar::NotDeclared
    );
}

#[test]
fn our_own_linux_node_tells_what_machine_it_is() {
    let native = client(NATIVE_CLIENT, "linux", "Linux");
    assert_eq!(
        CommandPolicy::default().check(&facts(&native, &["device.info"]), "device.info"),
        Ok(())
    );
}

#[test]
fn our_own_node_on_android_is_a_host_once_that_was_approved() {
    let policy = CommandPolicy::default();
    let approved = facts(&client(NATIVE_CLIENT, "android", "Android"), &["system.run"]);
    assert_eq!(policy.check(&approved, "system.run"), Ok(()));
    let unapproved = NodeFacts {
        approved: Surface::default(),
        ..approved
    };
    assert!(policy.check(&unapproved, "system.run").is_err());
    let page = facts(&client("node-host", "android", "Android"), &["system.run"]);
    assert!(policy.check(&page, "system.run").is_err(), "a page runs nothing");
}

#[test]
fn what_listens_or_reads_needs_a_word_of_the_gateways_owner_and_what_shows_or_says_does_not() {
    let native = client(NATIVE_CLIENT, "linux", "Linux");
    for (command, is_let_through) in [
        ("system.notify", true),
        ("location.get", true),
        ("clipboard.write", true),
        ("audio.play", true),
        ("audio.speak", true),
        ("device.health", true),
        ("clipboard.read", false),
        ("audio.record", false),
    ] {
        let (closed, declared) = (CommandPolicy::default(), facts(&native, &[command]));
        assert_eq!(closed.check(&declared, command).is_ok(), is_let_through, "{command}");
        let offered = closed.offerable(&native, &surface(&[], &[command]), &BTreeSet::new());
        assert_eq!(offered.commands, [command], "one approval covers it");
        let open = CommandPolicy {
            allow: vec![command.to_owned()],
            ..CommandPolicy::default()
        };
        assert_eq!(open.check(&declared, command), Ok(()));
    }
}

#[test]
fn a_dangerous_command_is_approvable_and_needs_the_owners_list_to_run() {
    let node = client("node-host", "macos", "Mac");
    let declared = ["camera.snap", "file.write", "x.custom"];
    let closed = CommandPolicy::default();
    assert_eq!(
        closed
            .offerable(&node, &surface(&[], &declared), &BTreeSet::new())
            .commands,
        ["camera.snap"]
    );
    assert!(closed.check(&facts(&node, &declared), "camera.snap").is_err());
    let open = CommandPolicy {
        allow: declared.iter().map(|&command| command.to_owned()).collect(),
        deny: vec!["file.write".into()],
    };
    assert_eq!(open.check(&facts(&node, &declared), "camera.snap"), Ok(()));
    assert_eq!(open.check(&facts(&node, &declared), "x.custom"), Ok(()));
    assert!(open.check(&facts(&node, &declared), "file.write").is_err(), "deny wins");
}

#[test]
fn what_can_be_used_now_is_what_a_call_would_be_let_through_for() {
    let node = client("node-host", "macos", "Mac");
    let both = surface(&["camera", "system"], &["camera.snap", "system.run"]);
    let facts = NodeFacts::new(&node, both.clone(), both);
    let closed = CommandPolicy::default();
    assert_eq!(closed.usable(&facts), surface(&["system"], &["system.run"]));
    let open = CommandPolicy {
        allow: vec!["camera.snap".into()],
        deny: vec!["system.run".into()],
    };
    assert_eq!(open.usable(&facts), surface(&["camera", "system"], &["camera.snap"]));
    let refused = closed.check(&facts, "camera.snap").expect_err("not allowed").to_wire();
    assert!(refused.message.contains("gateway.nodes.commands.allow"), "{refused}");
}

#[test]
fn a_policy_of_an_agent_only_takes_away_and_its_deny_wins() {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let agent = |allow: Option<&[&str]>, deny: &[&str]| Narrowing {
        allow: allow.map(list),
        deny: list(deny),
    };
    for (narrowing, snap, which, opened) in [
        (agent(None, &[]), true, true, false),
        (agent(None, &["camera.snap"]), false, true, false),
        (agent(Some(&["camera.snap"]), &[]), true, false, false),
        (agent(Some(&["camera.snap"]), &["camera.snap"]), false, false, false),
        (agent(Some(&["camera.snap", "screen.record"]), &[]), true, false, false),
        (agent(Some(&[]), &[]), false, false, false),
    ] {
        let node = client("node-host", "macos", "Mac");
        let id = AgentId::new("main").expect("an id");
        let policy = Policy {
            commands: CommandPolicy {
                allow: list(&["camera.snap"]),
                deny: Vec::new(),
            },
            agents: [(id.clone(), narrowing.clone())].into(),
        };
        let by = |principal: Principal, command: &str| {
            let action = InvokeCommand {
                node: DeviceId::from_digest([7; 32]),
                command: command.to_owned(),
                facts: Arc::new(facts(&node, &["camera.snap", "system.which", "screen.record"])),
                door: Door::Invoke,
            };
            decide(&Arc::new(principal), action, &policy, 0).is_ok()
        };
        let session = SessionKey::new("agent:main:main").expect("a key");
        let agent = |command: &str| by(Principal::agent(id.clone(), session.clone()), command);
        let results = (agent("camera.snap"), agent("system.which"), agent("screen.record"));
        assert_eq!(results, (snap, which, opened), "{narrowing:?}");
        let other = AgentId::new("other").expect("an id");
        assert!(
            by(Principal::agent(other, session.clone()), "camera.snap"),
            "another agent"
        );
        assert!(
            by(Principal::sender("telegram", "main", "1", true), "camera.snap"),
            "a person"
        );
    }
}

#[test]
fn no_list_opens_the_workers_private_commands() {
    let policy = CommandPolicy {
        allow: vec!["worker.exec".into()],
        deny: vec![],
    };
    let node = client("node-host", "linux", "Linux");
    assert!(policy.check(&facts(&node, &["worker.exec"]), "worker.exec").is_err());
    assert!(
        policy
            .offerable(&node, &surface(&[], &["worker.exec"]), &BTreeSet::new())
            .commands
            .is_empty()
    );
}

#[test]
fn what_the_owner_did_not_approve_does_not_run_however_loudly_it_is_declared() {
    let node = client("node-host", "linux", "Linux");
    let facts = NodeFacts::new(&node, surface(&[], REAL_NODE), surface(&[], &["system.which"]));
    let policy = CommandPolicy {
        allow: REAL_NODE.iter().map(|&command| command.to_owned()).collect(),
        deny: vec![],
    };
    for command in REAL_NODE {
        assert_eq!(
            policy.check(&facts, command).is_ok(),
            *command == "system.which",
            "{command}"
        );
    }
}

#[test]
fn a_capability_goes_with_its_last_command() {
    let node = client("node-host", "beos", "");
    let offered = CommandPolicy::default().offerable(
        &node,
        &surface(&["camera", "screen", "system"], &["camera.list", "screen.snapshot"]),
        &BTreeSet::new(),
    );
    assert_eq!(offered.caps, ["camera", "system"]);
}

#[test]
fn approving_what_runs_things_takes_an_administrator() {
    let needed = |commands: &[&str]| required_to_approve(&surface(&[], commands)).iter().collect::<Vec<_>>();
    assert_eq!(needed(&[]), [Scope::Pairing]);
    assert_eq!(needed(&["location.get"]), [Scope::Pairing, Scope::Write]);
    assert_eq!(needed(&["location.get", "system.run"]), [Scope::Pairing, Scope::Admin]);
}
