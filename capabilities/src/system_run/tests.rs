//! Real programs under `system.run`.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use atoll_protocol::calls::Said;
use atoll_protocol::frame::OutputStream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;

mod approval;

/// Takes whatever it is given for a signed plan.
struct Credulous;

impl PlanVerifier for Credulous {
    fn verify(&self, signed: &SignedPlan, _call: &CallId) -> Result<Plan, String> {
        Plan::decode(&signed.plan).ok_or_else(|| "not signed by the gateway".to_owned())
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }
}

struct Lab {
    folder: tempfile::TempDir,
    system: SystemRun,
}

impl Lab {
    /// A device with this policy file; none for the closed defaults.
    fn new(policy: Option<Value>) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        if let Some(policy) = policy {
            used::replace(&folder.path().join(POLICY_FILE), &policy.to_string()).expect("written");
        }
        let home = folder.path().canonicalize().expect("real");
        let env = [("PATH", "/usr/bin:/bin"), ("HOME", home.to_str().expect("text"))];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let system = SystemRun::with_environment(folder.path(), Arc::new(Credulous), env);
        Self { folder, system }
    }

    /// A device whose owner lets everything run.
    fn open() -> Self {
        Self::new(Some(json!({"version":1,"defaults":{"security":"full","ask":"off"}})))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().canonicalize().expect("real").join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("changed");
        path.to_str().expect("text").to_owned()
    }

    async fn call(&self, command: &str, params: Value, plan: Option<SignedPlan>) -> Result<Value, CallError> {
        let (call, progress) = call(command, params, plan);
        let drained = tokio::spawn(drain(progress));
        let result = self.system.invoke(call).await;
        drained.await.expect("drains");
        result.map(|json| json.expect("a payload").tree())
    }

    async fn run(&self, params: Value) -> Value {
        self.call("system.run", params, None).await.expect("a result")
    }

    async fn denied(&self, params: Value, plan: Option<SignedPlan>) -> String {
        let error = self.call("system.run", params, plan).await.expect_err("refused");
        assert_eq!(error.code, "SYSTEM_RUN_DENIED", "{error}");
        assert!(error.message.starts_with("SYSTEM_RUN_DENIED: "), "{error}");
        error.message
    }
}

fn call(command: &str, params: Value, plan: Option<SignedPlan>) -> (Call, mpsc::Receiver<Said>) {
    let (progress, receiver) = mpsc::channel(16);
    let call = Call {
        id: CallId::new("c1").expect("fits"),
        command: command.to_owned(),
        params: Some(Json::from(params)),
        deadline: Duration::from_secs(60),
        plan,
        cancel: CancellationToken::new(),
        progress,
        blobs: None,
        silent: None,
    };
    (call, receiver)
}

async fn drain(mut progress: mpsc::Receiver<Said>) -> String {
    let mut text = String::new();
    while let Some(said) = progress.recv().await {
        let Said::Wrote(_, bytes) = said else { continue };
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    text
}

fn is_alive(pid: i32) -> bool {
    // A zombie is dead; nobody has looked yet.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let over = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < over, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn pid_in(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok()
}

/// A shell that starts a grandchild, writes its number into `pid`, and waits for it; neither hears the polite signal.
const STUBBORN: &str = "trap '' TERM; sleep 300 & echo $! > pid.new; mv pid.new pid; wait; wait";

#[tokio::test]
async fn a_command_gives_its_output_and_exit_code_in_openclaws_shape() {
    let lab = Lab::open();
    let result = lab
        .run(json!({"command":["sh","-c","echo out; echo err >&2; exit 3"]}))
        .await;
    let expected = json!({
        "exitCode": 3, "timedOut": false, "success": false, "stdout": "out\n", "stderr": "err\n", "stdoutBytes": 4, "stderrBytes": 4, "error": null,
    });
    assert_eq!(result, expected);
    let result = lab.run(json!({"command":["true"],"cwd":"/","env":{"FOO":"bar"}})).await;
    assert_eq!((&result["success"], &result["exitCode"]), (&json!(true), &json!(0)));
}

#[tokio::test]
async fn a_missing_program_is_a_result_and_a_missing_folder_an_error() {
    let lab = Lab::open();
    let result = lab.run(json!({"command":["no-such-program-here"]})).await;
    assert!(result.get("exitCode").is_none());
    assert!(result["error"].as_str().expect("text").contains("no-such-program-here"));
    let error = lab
        .call("system.run", json!({"command":["true"],"cwd":"/no/such/folder"}), None)
        .await;
    let error = error.expect_err("refused");
    assert_eq!(error.code, "INVALID_REQUEST");
    assert!(error.message.contains("/no/such/folder"));
}

#[tokio::test]
async fn parameters_of_another_shape_are_refused() {
    let lab = Lab::open();
    for params in [
        json!({}),
        json!({"command":"ls"}),
        json!({"command":[]}),
        json!({"command":[""]}),
        json!({"command":["a\0b"]}),
        json!({"command":[1]}),
        json!({"command":["true"],"env":{"PATH":"/tmp"}}),
        json!({"command":["true"],"env":{"LD_PRELOAD":"/tmp/x.so"}}),
        json!({"command":["true"],"timeoutMs":"soon"}),
    ] {
        let error = lab.call("system.run", params.clone(), None).await.expect_err("refused");
        assert_eq!(error.code, "INVALID_REQUEST", "{params}");
    }
}

#[tokio::test]
async fn stdin_cwd_and_env_reach_the_command_and_nothing_else_does() {
    let lab = Lab::open();
    let result = lab.run(json!({"command":["cat"],"stdin":"grüße\n"})).await;
    assert_eq!(result["stdout"], "grüße\n");
    assert_eq!(lab.run(json!({"command":["cat"]})).await["stdout"], "");
    let result = lab.run(json!({"command":["env"],"env":{"FOO":"b a r"}})).await;
    let home = lab.folder.path().canonicalize().expect("real");
    let mut lines: Vec<&str> = result["stdout"].as_str().expect("text").lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["FOO=b a r", &format!("HOME={}", home.display()), "PATH=/usr/bin:/bin"]
    );
    assert_eq!(
        lab.run(json!({"command":["pwd"],"cwd":"/usr/../usr"})).await["stdout"],
        "/usr\n"
    );
}

#[tokio::test]
async fn a_signal_is_reported() {
    let result = Lab::open().run(json!({"command":["sh","-c","kill -9 $$"]})).await;
    assert_eq!((&result["signal"], result.get("exitCode")), (&json!("SIGKILL"), None));
    assert_eq!(result["success"], false);
}

#[tokio::test]
async fn invalid_utf_8_is_replaced() {
    let result = Lab::open().run(json!({"command":["printf","a\\377b"]})).await;
    assert_eq!(result["stdout"], "a\u{fffd}b");
}

#[tokio::test]
async fn output_streams_while_the_command_runs() {
    let lab = Lab::open();
    let fifo = lab.folder.path().join("go");
    lab.run(json!({"command":["mkfifo","go"]})).await;
    let (call, mut progress) = call(
        "system.run",
        json!({"command":["sh","-c","echo first; cat go; echo last"]}),
        None,
    );
    let running = tokio::spawn({
        let system = SystemRun {
            inner: Arc::clone(&lab.system.inner),
        };
        async move { system.invoke(call).await }
    });
    let first = Said::Wrote(OutputStream::Stdout, "first\n".into());
    assert_eq!(progress.recv().await, Some(first));
    assert!(!running.is_finished());
    tokio::fs::write(fifo, "middle\n").await.expect("written");
    let result = running
        .await
        .expect("joins")
        .expect("a result")
        .expect("a payload")
        .tree();
    assert_eq!(result["stdout"], "first\nmiddle\nlast\n");
    assert_eq!(drain(progress).await, "middle\nlast\n");
}

#[tokio::test]
async fn both_streams_come_to_the_byte_and_apart() {
    let (call, mut progress) = call(
        "system.run",
        json!({"command":["sh","-c","printf 'a\\377\\0b\\303'; printf 'e\\303' >&2"]}),
        None,
    );
    let lab = Lab::open();
    let heard = async {
        let mut heard = [Vec::new(), Vec::new()];
        while let Some(said) = progress.recv().await {
            let Said::Wrote(stream, bytes) = said else {
                panic!("words")
            };
            heard[usize::from(stream == OutputStream::Stderr)].extend_from_slice(&bytes);
        }
        heard
    };
    let (result, heard) = tokio::join!(lab.system.invoke(call), heard);
    assert_eq!(heard, [b"a\xff\0b\xc3".to_vec(), b"e\xc3".to_vec()]);
    let result = result.expect("a result").expect("a payload").tree();
    assert_eq!((&result["stdoutBytes"], &result["stderrBytes"]), (&json!(5), &json!(2)));
}

#[tokio::test]
async fn what_lies_in_the_pipes_when_a_command_ends_is_heard_by_a_listener_that_is_slow() {
    let (call, mut progress) = call(
        "system.run",
        json!({"command":["sh","-c","head -c 60000 /dev/zero"]}),
        None,
    );
    let lab = Lab::open();
    let heard = async {
        let mut heard = 0;
        while let Some(said) = progress.recv().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Said::Wrote(_, bytes) = said else { panic!("words") };
            heard += bytes.len();
        }
        heard
    };
    let (result, heard) = tokio::join!(lab.system.invoke(call), heard);
    assert!(result.is_ok());
    assert_eq!(heard, 60_000);
}

#[tokio::test]
async fn a_deadline_kills_the_whole_group() {
    let lab = Lab::open();
    let result = lab
        .run(json!({"command":["sh","-c",format!("echo begun; {STUBBORN}")],"timeoutMs":400}))
        .await;
    assert_eq!((&result["exitCode"], &result["timedOut"]), (&json!(124), &json!(true)));
    assert_eq!(result["stdout"], "begun\n");
    let pid = pid_in(&lab.folder.path().join("pid")).expect("the grandchild started");
    wait_until("the grandchild is dead", || !is_alive(pid)).await;
}

#[tokio::test]
async fn the_calls_own_deadline_leaves_time_to_die() {
    let lab = Lab::open();
    let (mut call, _progress) = call("system.run", json!({"command":["sh","-c",STUBBORN]}), None);
    call.deadline = Duration::from_millis(800);
    let began = Instant::now();
    let result = lab
        .system
        .invoke(call)
        .await
        .expect("a result")
        .expect("a payload")
        .tree();
    assert_eq!(result["timedOut"], true);
    assert!(began.elapsed() < Duration::from_millis(1100), "{:?}", began.elapsed());
}

#[tokio::test]
async fn cancelling_kills_the_whole_group() {
    let lab = Lab::open();
    let (call, _progress) = call("system.run", json!({"command":["sh","-c",STUBBORN]}), None);
    let cancel = call.cancel.clone();
    let path = lab.folder.path().join("pid");
    let (result, pid) = tokio::join!(lab.system.invoke(call), async {
        wait_until("the grandchild started", || pid_in(&path).is_some()).await;
        cancel.cancel();
        pid_in(&path).expect("seen")
    });
    assert_eq!(result.expect_err("cancelled").code, "CANCELLED");
    wait_until("the grandchild is dead", || !is_alive(pid)).await;
}

#[tokio::test]
async fn dropping_the_call_kills_the_whole_group() {
    let lab = Lab::open();
    let (call, _progress) = call("system.run", json!({"command":["sh","-c",STUBBORN]}), None);
    let path = lab.folder.path().join("pid");
    tokio::select! {
        result = lab.system.invoke(call) => panic!("it ended: {result:?}"),
        () = wait_until("the grandchild started", || pid_in(&path).is_some()) => {}
    }
    let pid = pid_in(&path).expect("seen");
    wait_until("the grandchild is dead", || !is_alive(pid)).await;
}

#[tokio::test]
async fn a_background_process_that_keeps_the_pipe_does_not_hold_the_call() {
    let lab = Lab::open();
    let began = Instant::now();
    let result = lab
        .run(json!({"command":["sh","-c","echo done; sleep 30 & echo $! > pid"]}))
        .await;
    assert_eq!(
        (&result["stdout"], &result["success"]),
        (&json!("done\n"), &json!(true))
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    let pid = pid_in(&lab.folder.path().join("pid")).expect("started");
    assert!(is_alive(pid), "what was put in the background on purpose goes on");
    lab.run(json!({"command":["kill",pid.to_string()]})).await;
}

#[tokio::test]
async fn a_gigabyte_of_output_costs_no_memory() {
    let lab = Lab::open();
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/status").expect("reads");
        let line = text.lines().find(|line| line.starts_with("VmHWM:")).expect("known");
        line.split_whitespace()
            .nth(1)
            .expect("figure")
            .parse::<u64>()
            .expect("number")
    };
    let before = resident();
    let result = lab.run(json!({"command":["sh","-c","yes | head -c 1000000000"]})).await;
    assert_eq!((&result["exitCode"], &result["truncated"]), (&json!(0), &json!(true)));
    let text = result["stdout"].as_str().expect("text");
    let missing = 1_000_000_000 - atoll_protocol::limits::COMMAND_OUTPUT;
    assert!(
        text.contains(&format!("[… {missing} bytes left out …]")),
        "{}",
        &text[..100]
    );
    assert!(text.len() < atoll_protocol::limits::COMMAND_OUTPUT + 100);
    assert!(
        resident() - before < 30_000,
        "{} kB before, {} kB after",
        before,
        resident()
    );
}

#[tokio::test]
async fn a_listener_that_does_not_listen_slows_the_command_and_cannot_outlive_its_deadline() {
    let lab = Lab::open();
    let (call, progress) = call("system.run", json!({"command":["yes"],"timeoutMs":300}), None);
    let result = lab
        .system
        .invoke(call)
        .await
        .expect("a result")
        .expect("a payload")
        .tree();
    assert_eq!(result["timedOut"], true);
    drop(progress);
}

#[tokio::test]
async fn sixty_four_commands_run_at_once() {
    let lab = Lab::open();
    // Each waits until all 64 are there.
    let script = "touch up$0; while [ $(ls up* | wc -l) -lt 64 ]; do sleep 0.05; done; echo $0";
    let all = (0..64).map(|n| lab.run(json!({"command":["sh","-c",script,n.to_string()]})));
    let results = futures(all.collect()).await;
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result["stdout"], format!("{n}\n"));
    }
}

/// Awaits all of them at the same time, in order.
async fn futures<F: Future<Output = Value>>(all: Vec<F>) -> Vec<Value> {
    let mut all: Vec<_> = all.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for (future, value) in &mut all {
            if value.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(result) => *value = Some(result),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    all.into_iter().filter_map(|(_, value)| value).collect()
}

#[tokio::test]
async fn which_finds_programs_by_bare_name_only() {
    let lab = Lab::open();
    let found = lab.call(
        "system.which",
        json!({"bins":["sh","no-such-program-here","../bin/sh","/bin/sh",""]}),
        None,
    );
    let found = found.await.expect("an answer");
    assert_eq!(
        found["bins"].as_object().expect("object").keys().collect::<Vec<_>>(),
        ["sh"]
    );
    assert!(found["bins"]["sh"].as_str().expect("text").ends_with("/sh"));
}
