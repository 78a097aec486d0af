//! Calls in all weathers, over every pipe: seeded schedules of cuts, partitions, deafness, losses, suspended nodes and killed programs.
//! Every call ends in a state that can be listed, by its deadline and a moment, no command runs twice, and bytes come whole or not at all. `ATOLL_SEED` repeats a run,
//! `ATOLL_SCHEDULES` says how many schedules it has, `ATOLL_SCHEDULE` picks one of them.

mod bytes;
mod clock;
mod long;
mod plan;

use std::collections::HashMap;
use std::time::Duration;

use atoll_tests::chance::{Chance, seed};
use atoll_tests::mesh::{Mesh, Node, Pipe, admit};
use atoll_tests::wait::{until_time, within};
use atoll_tests::weather::{Proxy, Weather};
use atoll_tests::wire::{Target, Wire, now_ms};
use plan::{Asked, Fault, Happening, Plan};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::{JoinError, JoinSet, LocalSet};
use tokio::time::Instant;

/// Schedules when nobody says how many.
const SCHEDULES: usize = 500;

/// Meshes side by side whose nodes use the same pipe.
const RIGS_OF_A_PIPE: usize = 3;

/// Meshes side by side.
const RIGS: usize = RIGS_OF_A_PIPE * plan::PIPES.len();

/// What a call may take from its planned start on.
const DEADLINE: Duration = Duration::from_secs(5);

/// The state may be this much later than the deadline.
const MOMENT: Duration = Duration::from_secs(5);

/// A node that is not back by then is started anew, so that the next schedule finds one.
const RETURN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn calls_end_once_whatever_happens_to_the_network_and_the_programs() {
    let schedules = number_in("ATOLL_SCHEDULES").unwrap_or(SCHEDULES);
    let (seed, only) = (seed(), number_in("ATOLL_SCHEDULE"));
    println!("{schedules} schedules, ATOLL_SEED={seed}");
    let drawn = (0..schedules).filter(|number| only.is_none_or(|only| only == *number));
    let plans: Vec<_> = drawn.map(|number| (number, plan(seed, number))).collect();
    let (mut tally, mut broken) = (Tally::default(), 0);
    for ended in LocalSet::new().run_until(live_all(seed, &plans)).await {
        match ended {
            Ok(part) => tally.add(&part),
            // It has said why.
            Err(_) => broken += 1,
        }
    }
    println!("{tally:?}");
    assert_eq!(broken, 0, "promises were broken, ATOLL_SEED={seed}");
    assert_eq!(tally.all(), plans.len() * plan::CALLS);
    assert!(tally.files > 0 || only.is_some(), "no bytes came through: {tally:?}");
    assert!(
        tally.ok * 3 > tally.all() || only.is_some(),
        "a mesh in which little works proves little: {tally:?}"
    );
}

fn number_in(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

fn plan(seed: u64, number: usize) -> Plan {
    Plan::draw(&mut Chance::new(seed, u64::try_from(number).expect("a few")))
}

/// The rigs side by side, each a task of its own: one that breaks ends no other.
async fn live_all(seed: u64, plans: &[(usize, Plan)]) -> Vec<Result<Tally, JoinError>> {
    let mut rigs = JoinSet::new();
    for rig in 0..RIGS {
        let pipe = plan::PIPES[rig % plan::PIPES.len()];
        let of_this_pipe = plans.iter().filter(|(_, plan)| plan.pipe == pipe);
        let mine = of_this_pipe.skip(rig / plan::PIPES.len()).step_by(RIGS_OF_A_PIPE);
        rigs.spawn_local(live(seed, rig, pipe, mine.cloned().collect()));
    }
    let mut ended = Vec::new();
    while let Some(rig) = rigs.join_next().await {
        ended.push(rig);
    }
    ended
}

/// One schedule after the other.
async fn live(seed: u64, rig: usize, pipe: Pipe, plans: Vec<(usize, Plan)>) -> Tally {
    let mut tally = Tally::default();
    if !plans.is_empty() {
        let mut mesh = Rig::new(seed, rig, pipe).await;
        for (number, plan) in plans {
            mesh.live_through(number, &plan, &mut tally).await;
        }
    }
    tally
}

/// How calls ended.
#[derive(Debug, Default)]
struct Tally {
    ok: usize,
    not_run: usize,
    /// Timed out or uncertain: nobody may know whether it ran.
    unknown: usize,
    /// Of those that are well, the ones that carried a file.
    files: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.not_run += other.not_run;
        self.unknown += other.unknown;
        self.files += other.files;
    }

    fn all(&self) -> usize {
        self.ok + self.not_run + self.unknown
    }
}

/// One gateway, one node, and the network between them.
struct Rig {
    mesh: Mesh,
    proxy: Proxy,
    node: Node,
    open: TempDir,
    name: String,
    id: String,
    operator: Wire,
    /// Requests that the living operator waits for, by the names of their calls.
    asked: HashMap<String, String>,
}

/// A call of a schedule.
struct Promise {
    name: String,
    asked: Asked,
    params: Value,
    /// Unix milliseconds.
    deadline: u64,
}

impl Rig {
    async fn new(seed: u64, rig: usize, pipe: Pipe) -> Self {
        let mesh = Mesh::start().await;
        let chance = Chance::new(seed, 1_000_000 + u64::try_from(rig).expect("a few"));
        let proxy = Proxy::start(mesh.target().port, chance).await;
        let target = Target {
            port: proxy.port(),
            ..mesh.target()
        };
        let name = format!("node-{rig}");
        let mut node = Node::prepare(&target, &name, &[]).over(pipe);
        node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
        write_program(&node);
        let open = tempfile::tempdir().expect("a folder");
        node.open_folder(open.path());
        node.run();
        let mut operator = mesh.operator().await;
        let id = admit(&mut operator, &name, atoll_tests::wait::PATIENCE).await;
        Self {
            mesh,
            proxy,
            node,
            open,
            name,
            id,
            operator,
            asked: HashMap::new(),
        }
    }

    async fn live_through(&mut self, number: usize, plan: &Plan, tally: &mut Tally) {
        let start = Instant::now();
        let mut promises = Vec::new();
        for (at, happening) in plan.in_order() {
            tokio::time::sleep_until(start + at).await;
            match happening {
                Happening::Call(asked) => {
                    let name = format!("{number}-{}", promises.len());
                    let promise = self.promise(name, asked);
                    self.ask(&promise).await;
                    promises.push(promise);
                }
                Happening::Begin(fault) => self.begin(fault).await,
                Happening::End(fault) => self.end(fault, &promises).await,
            }
        }
        for promise in &promises {
            let state = self.state(promise).await;
            self.is_kept(promise, &state)
                .await
                .unwrap_or_else(|found| panic!("schedule {number}, {}: {state}, {found}; {plan:?}", promise.name));
            if state == "ok" && matches!(promise.asked, Asked::Fetch | Asked::Write) {
                tally.files += 1;
            }
            match state.as_str() {
                "ok" => tally.ok += 1,
                "error" | "node away" | "refused" => tally.not_run += 1,
                _ => tally.unknown += 1,
            }
        }
        self.asked.clear();
        self.come_home().await;
    }

    fn promise(&self, name: String, asked: Asked) -> Promise {
        let deadline = now_ms() + u64::try_from(DEADLINE.as_millis()).expect("a few seconds");
        let program = self.node.state().join("job");
        let (command, of_it) = match asked {
            Asked::Run(sleep) | Asked::WaitAndRun(sleep) => ("system.run", json!({"command": [program, name, sleep]})),
            Asked::Fetch => ("file.fetch", bytes::to_fetch(self.open.path(), &name)),
            Asked::Write => ("file.write", bytes::to_write(self.open.path(), &name)),
        };
        let mut params = json!({
            "nodeId": self.id, "command": command, "idempotencyKey": name, "deadline": deadline, "params": of_it,
        });
        if matches!(asked, Asked::WaitAndRun(_)) {
            params["offline"] = json!({"queueUntil": deadline});
        }
        Promise {
            name,
            asked,
            params,
            deadline,
        }
    }

    /// Whether what there is fits the state of a call; what there is where it does not.
    async fn is_kept(&mut self, promise: &Promise, state: &str) -> Result<(), String> {
        let done = match promise.asked {
            Asked::Run(_) | Asked::WaitAndRun(_) => self.runs(&promise.name),
            Asked::Write => bytes::written(self.open.path(), &promise.name)?,
            // The bytes are part of the result.
            Asked::Fetch if state == "ok" => {
                let asked = self.asked.get(&promise.name).ok_or("nobody asked")?;
                let result = self.operator.answer(asked).await;
                return bytes::fetched(&promise.name, &result);
            }
            Asked::Fetch => 0,
        };
        let is_right = match state {
            "ok" => done == 1,
            "error" | "node away" | "refused" => done == 0,
            "timed out" | "uncertain" => done <= 1,
            _ => false,
        };
        is_right
            .then_some(())
            .ok_or_else(|| format!("and it was done {done} times"))
    }

    async fn ask(&mut self, promise: &Promise) {
        let id = self.operator.ask("node.invoke", promise.params.clone()).await;
        self.asked.insert(promise.name.clone(), id);
    }

    async fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => self.proxy.cut(),
            Fault::Move => self.proxy.move_away(),
            Fault::Weather(weather) => self.proxy.set(weather),
            Fault::Suspended => self.node.program().suspend(),
            Fault::NodeKilled => self.node.kill().await,
            Fault::GatewayKilled => {
                self.mesh.kill().await;
                self.asked.clear();
            }
        }
    }

    /// Whoever asked a gateway that was killed asks the next one again.
    async fn end(&mut self, fault: Fault, promises: &[Promise]) {
        match fault {
            Fault::Cut | Fault::Move => {}
            Fault::Weather(_) => self.proxy.set(Weather::default()),
            Fault::Suspended => self.node.program().wake(),
            Fault::NodeKilled => self.node.run(),
            Fault::GatewayKilled => {
                self.mesh.run().await;
                self.operator = self.mesh.operator().await;
                for promise in promises {
                    self.ask(promise).await;
                }
            }
        }
    }

    /// The final state of a call, which is there in time.
    async fn state(&mut self, promise: &Promise) -> String {
        let left = promise.deadline.saturating_sub(now_ms());
        let patience = Duration::from_millis(left) + MOMENT;
        let (operator, asked) = (&mut self.operator, &self.asked);
        let list = json!({"nodeId": self.id, "limit": 50});
        until_time(&format!("an end of {}", promise.name), patience, async || {
            let calls = operator.call("node.calls.list", list.clone()).await.expect("a list");
            let mut rows = calls["calls"].as_array()?.iter();
            match rows.find(|row| row["idempotencyKey"] == promise.name) {
                Some(row) if row["open"] == false => row["state"].as_str().map(str::to_owned),
                Some(_) => None,
                // What was never made is told by its answer alone.
                None => {
                    let answer = operator.answer(asked.get(&promise.name)?).await;
                    answer.is_err().then(|| "refused".to_owned())
                }
            }
        })
        .await
    }

    fn runs(&self, name: &str) -> usize {
        let runs = std::fs::read_to_string(self.node.state().join("runs")).unwrap_or_default();
        runs.lines().filter(|line| *line == name).count()
    }

    /// Fine weather and a node that is there.
    async fn come_home(&mut self) {
        self.proxy.set(Weather::default());
        if tokio::time::timeout(RETURN, self.mesh.connected(&self.name))
            .await
            .is_err()
        {
            self.node.kill().await;
            self.node.run();
            within("the node to be back", self.mesh.connected(&self.name)).await;
        }
    }
}

/// What the calls run: it writes its name down, may sleep, and answers.
fn write_program(node: &Node) {
    let path = node.state().join("job");
    let runs = node.state().join("runs");
    let text = format!(
        "#!/bin/sh\necho \"$1\" >>'{}'\nsleep \"$2\"\necho \"ran $1\"\n",
        runs.display()
    );
    std::fs::write(&path, text).expect("a writable folder");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&path, executable).expect("a file of our own");
}
