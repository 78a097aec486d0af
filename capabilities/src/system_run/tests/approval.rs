//! Who may run what: the policy file and the plans that a person approved.

use std::sync::Mutex;

use atoll_protocol::id::{ApprovalId, DeviceId};
use atoll_protocol::plan::FileHash;
use sha2::{Digest, Sha256};

use super::*;

#[tokio::test]
async fn without_a_file_nothing_runs_unasked() {
    let lab = Lab::new(None);
    let why = lab.denied(json!({"command":["true"]}), None).await;
    assert!(why.contains("approval required"), "{why}");
    let claim = json!({"command":["true"],"approved":true,"approvalDecision":"allow-once","runId":"r"});
    let why = lab.denied(claim, None).await;
    assert!(why.contains("approval required") && why.contains("not signed"), "{why}");
    let prepared = lab
        .call("system.run.prepare", json!({"command":["true"]}), None)
        .await
        .expect("an answer");
    assert_eq!(prepared["verdict"], "ask");
    assert_eq!(prepared["execPolicy"], json!({"security":"allowlist","ask":"on-miss"}));
}

#[tokio::test]
async fn a_listed_program_runs_and_a_shell_around_it_does_not() {
    let rules = json!([{"pattern":"true"},{"pattern":"/bin/sh"},{"pattern":"/usr/bin/*"}]);
    let lab = Lab::new(Some(json!({"version":1,"agents":{"main":{"allowlist":rules}}})));
    assert_eq!(lab.run(json!({"command":["true"]})).await["success"], true);
    for command in [
        json!(["sh", "-c", "true"]),
        json!(["/bin/sh", "-c", "true"]),
        json!(["env", "true"]),
    ] {
        lab.denied(json!({ "command": command }), None).await;
    }
    let link = lab.folder.path().join("true");
    std::os::unix::fs::symlink("/bin/sh", &link).expect("linked");
    lab.denied(json!({"command":[link, "-c", "true"]}), None).await;
}

/// What a person approved, built from what `prepare` said, as the gateway does it.
fn plan(prepared: &Value, stdin: &str) -> Plan {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let digest = |value: &Value| -> [u8; 32] {
        let text = text(value);
        let bytes = (0..32).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).expect("hex"));
        bytes.collect::<Vec<_>>().try_into().expect("32 bytes")
    };
    let files = prepared["files"].as_array().expect("files").iter();
    Plan {
        approval: ApprovalId::new("a1").expect("fits"),
        call: CallId::new("c1").expect("fits"),
        node: DeviceId::from_digest([0; 32]),
        argv: serde_json::from_value(prepared["plan"]["argv"].clone()).expect("argv"),
        cwd: text(&prepared["plan"]["cwd"]),
        env_sha256: digest(&prepared["envSha256"]),
        stdin_sha256: Sha256::digest(stdin).into(),
        files: files
            .map(|file| FileHash {
                path: text(&file["path"]),
                sha256: digest(&file["sha256"]),
            })
            .collect(),
        session: String::new(),
        expires_at_ms: now_ms() + 60_000,
    }
}

fn sign(plan: &Plan) -> Option<SignedPlan> {
    Some(SignedPlan {
        plan: plan.encode(),
        signature: vec![0; 64],
    })
}

#[tokio::test]
async fn an_approved_plan_runs_once() {
    let lab = Lab::new(None);
    let script = lab.file("tidy.sh", "#!/bin/sh\necho \"$1 $2 $(cat)\"\n");
    let params = json!({"command":["sh", script, "a", "b c"],"env":{"FOO":"x"},"stdin":"input"});
    let prepared = lab
        .call("system.run.prepare", params.clone(), None)
        .await
        .expect("an answer");
    let files: Vec<&str> = prepared["files"]
        .as_array()
        .expect("files")
        .iter()
        .filter_map(|file| file["path"].as_str())
        .collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!(prepared["plan"]["mutableFileOperand"]["path"], json!(script));
    assert_eq!(prepared["plan"]["mutableFileOperand"]["argvIndex"], 1);
    let plan = plan(&prepared, "input");
    let result = lab
        .call("system.run", params.clone(), sign(&plan))
        .await
        .expect("a result");
    assert_eq!(result["stdout"], "a b c input\n");
    assert!(lab.denied(params, sign(&plan)).await.contains("used already"));
}

#[tokio::test]
async fn a_plan_for_anything_else_is_refused_and_not_spent() {
    let lab = Lab::new(None);
    let params = json!({"command":["echo","hello"]});
    let prepared = lab
        .call("system.run.prepare", params.clone(), None)
        .await
        .expect("an answer");
    let good = plan(&prepared, "");
    type Change = fn(&mut Plan);
    let changes: [(&str, Change); 7] = [
        ("the call", |plan| plan.call = CallId::new("c2").expect("fits")),
        ("the command", |plan| plan.argv.push("more".to_owned())),
        ("the working folder", |plan| plan.cwd = "/".to_owned()),
        ("the environment", |plan| plan.env_sha256 = [0; 32]),
        ("the standard input", |plan| plan.stdin_sha256 = [0; 32]),
        ("expired", |plan| plan.expires_at_ms = 1),
        ("changed since", |plan| plan.files.clear()),
    ];
    for (what, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let why = lab.denied(params.clone(), sign(&bad)).await;
        assert!(why.contains(what), "{what}: {why}");
    }
    let unsigned = SignedPlan {
        plan: vec![1, 2, 3],
        signature: vec![],
    };
    assert!(lab.denied(params.clone(), Some(unsigned)).await.contains("not signed"));
    assert_eq!(
        lab.call("system.run", params, sign(&good)).await.expect("a result")["stdout"],
        "hello\n"
    );
}

#[tokio::test]
async fn a_script_that_changed_after_its_approval_does_not_run() {
    let lab = Lab::new(None);
    let script = lab.file("tidy", "#!/bin/sh\necho good\n");
    for command in [
        json!([script]),
        json!(["sh", "tidy"]),
        json!(["env", "sh", "tidy"]),
        json!(["nice", "-n", "1", "./tidy"]),
    ] {
        lab.file("tidy", "#!/bin/sh\necho good\n");
        let params = json!({ "command": command });
        let prepared = lab
            .call("system.run.prepare", params.clone(), None)
            .await
            .expect("an answer");
        let plan = plan(&prepared, "");
        lab.file("tidy", "#!/bin/sh\necho evil\n");
        let why = lab.denied(params, sign(&plan)).await;
        assert!(why.contains("tidy has changed"), "{command}: {why}");
    }
}

#[tokio::test]
async fn deny_means_deny_whoever_approved() {
    let lab = Lab::new(Some(json!({"version":1,"defaults":{"security":"deny"}})));
    let params = json!({"command":["echo"]});
    let prepared = lab
        .call("system.run.prepare", params.clone(), None)
        .await
        .expect("an answer");
    assert_eq!(prepared["verdict"], "deny");
    let plan = plan(&prepared, "");
    assert!(lab.denied(params, sign(&plan)).await.contains("runs no commands"));
}

#[tokio::test]
async fn a_broken_policy_stops_everything() {
    let lab = Lab::open();
    std::fs::write(lab.folder.path().join(POLICY_FILE), "{").expect("written");
    assert!(
        lab.denied(json!({"command":["true"]}), None)
            .await
            .contains("cannot be used")
    );
}

#[tokio::test]
async fn a_verifier_that_knows_the_node_decides_first() {
    struct Deaf(Mutex<Vec<CallId>>);
    impl PlanVerifier for Deaf {
        fn verify(&self, _signed: &SignedPlan, call: &CallId) -> Result<Plan, String> {
            self.0.lock().expect("unpoisoned").push(call.clone());
            Err("no gateway is pinned".to_owned())
        }

        fn now_ms(&self) -> u64 {
            now_ms()
        }
    }
    let lab = Lab::new(None);
    let deaf = Arc::new(Deaf(Mutex::default()));
    let env = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let system = SystemRun::with_environment(lab.folder.path(), Arc::clone(&deaf) as _, env.into_iter());
    let signed = SignedPlan {
        plan: vec![],
        signature: vec![],
    };
    let (call, _progress) = call("system.run", json!({"command":["true"]}), Some(signed));
    assert!(
        system
            .invoke(call)
            .await
            .expect_err("refused")
            .message
            .contains("no gateway is pinned")
    );
    assert_eq!(deaf.0.lock().expect("unpoisoned").len(), 1);
}
