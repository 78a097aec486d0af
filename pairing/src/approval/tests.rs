//! Questions, their answers and their ends, and that an answer is used once.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::plan::{Expectation, PlanError, plan_of, sign_plan, verify_plan};
use super::record::{StoredApproval, StoredGrant};
use super::*;
use crate::access::{Policy, decide};
use crate::identity::Identity;

const START: u64 = 1_000_000;

fn approval_id(text: &str) -> ApprovalId {
    ApprovalId::new(text).expect("an id")
}

fn call(text: &str) -> CallId {
    CallId::new(text).expect("an id")
}

fn node() -> DeviceId {
    DeviceId::from_digest([3; 32])
}

fn question() -> Question {
    Question {
        node: Some(node()),
        command: "uname -a".into(),
        argv: vec!["/usr/bin/uname".into(), "-a".into()],
        cwd: Some("/home/ada".into()),
        env_sha256: [1; 32],
        stdin_sha256: [2; 32],
        files: vec![],
        agent: Some(AgentId::new("main").expect("an id")),
        session: Some(SessionKey::new("agent:main:main").expect("a key")),
        system_run_plan: Some(Json::parse(r#"{"argv":["/usr/bin/uname","-a"]}"#).expect("json")),
        security: "allowlist".into(),
        ask: "on-miss".into(),
        warning: None,
        offers_always: true,
    }
}

fn new(text: &str) -> NewApproval {
    NewApproval {
        id: approval_id(text),
        question: question(),
        requester: Requester::default(),
        lifetime_ms: None,
        is_bound: false,
    }
}

fn owner() -> Arc<Principal> {
    Arc::new(Principal::sender("telegram", "main", "1", true))
}

fn operator(scope: Scope, connection: &str) -> Arc<Principal> {
    Arc::new(Principal::shared_secret([scope].into_iter().collect()).with_connection(connection))
}

fn answer(
    approvals: &mut Approvals,
    by: &Arc<Principal>,
    text: &str,
    decision: Decision,
    now: u64,
) -> Result<Vec<ApprovalChange>, ApprovalError> {
    let id = approval_id(text);
    let granted = decide(by, ResolveApproval { id }, &Policy::default(), now).expect("holds operator.approvals");
    approvals.resolve(&granted, decision, now)
}

fn spend(text: &str) -> Spend {
    Spend {
        call: call(text),
        node: Some(node()),
        by: Requester::default(),
    }
}

fn asked(text: &str) -> Approvals {
    let mut approvals = Approvals::default();
    approvals.request(new(text), START).expect("asked");
    approvals
}

fn event(changes: &[ApprovalChange]) -> (&'static str, Value) {
    changes
        .iter()
        .find_map(|change| match change {
            ApprovalChange::Event { name, payload, .. } => Some((*name, payload.tree())),
            ApprovalChange::Put(_)
            | ApprovalChange::Forget(_)
            | ApprovalChange::PutGrant(_)
            | ApprovalChange::ForgetGrant(_)
            | ApprovalChange::Settled(_) => None,
        })
        .expect("an event")
}

#[test]
fn a_yes_is_used_once_and_by_one_call() {
    let mut approvals = asked("a");
    let id = approval_id("a");
    assert_eq!(
        approvals.consume(&id, &spend("c"), START).expect_err("early"),
        SpendError::Required
    );
    answer(&mut approvals, &owner(), "a", Decision::AllowOnce, START).expect("answered");
    let (used, changes) = approvals.consume(&id, &spend("c"), START).expect("once");
    assert!(
        matches!(changes.as_slice(), [ApprovalChange::Put(_)]),
        "stored before the run"
    );
    assert_eq!(used.question, question(), "what runs is what was asked");
    let (_, changes) = approvals
        .consume(&id, &spend("c"), START)
        .expect("the same call, after a crash");
    assert!(changes.is_empty());
    assert_eq!(
        approvals.consume(&id, &spend("d"), START).expect_err("twice"),
        SpendError::Required
    );
}

#[test]
fn the_first_answer_stands() {
    let mut approvals = asked("a");
    answer(&mut approvals, &owner(), "a", Decision::Deny, START).expect("answered");
    let late = answer(&mut approvals, &owner(), "a", Decision::AllowOnce, START);
    assert_eq!(late, Err(ApprovalError::AlreadyResolved));
    assert_eq!(
        approvals
            .consume(&approval_id("a"), &spend("c"), START)
            .expect_err("denied"),
        SpendError::Required
    );
}

#[test]
fn nobody_answering_counts_as_no() {
    let mut approvals = asked("a");
    let end = START + limits::APPROVAL.as_millis() as u64;
    assert_eq!(approvals.next_expiry_ms(), Some(end));
    let late = answer(&mut approvals, &owner(), "a", Decision::AllowOnce, end);
    assert_eq!(late, Err(ApprovalError::Unknown));
    let changes = approvals.expire(end);
    let (name, payload) = event(&changes);
    assert_eq!(
        (name, &payload["decision"]),
        ("exec.approval.resolved", &Value::from("deny"))
    );
    assert!(
        changes.contains(&ApprovalChange::Settled(approval_id("a"))),
        "whoever waits is told"
    );
    let row = rows::outcome(approvals.find(&approval_id("a")).expect("remembered"));
    assert_eq!(
        (&row["decision"], &row["terminalReason"]),
        (&Value::Null, &Value::from("timeout"))
    );
    assert_eq!(
        approvals.expire(end + HISTORY_MS),
        [ApprovalChange::Forget(approval_id("a"))]
    );
}

#[test]
fn a_yes_that_nobody_used_in_time_is_void() {
    let mut approvals = asked("a");
    answer(&mut approvals, &owner(), "a", Decision::AllowOnce, START).expect("answered");
    let end = START + limits::APPROVAL.as_millis() as u64;
    let error = approvals
        .consume(&approval_id("a"), &spend("c"), end)
        .expect_err("late");
    assert_eq!(error.to_wire().detail_code().as_deref(), Some("APPROVAL_EXPIRED"));
}

#[test]
fn a_question_ends_with_the_turn_that_asked_it() {
    let mut approvals = asked("a");
    let changes = approvals.withdraw(&approval_id("a"), Ended::Withdrawn, START);
    assert_eq!(event(&changes).0, "exec.approval.resolved");
    assert!(approvals.pending().is_empty());
    assert!(
        approvals
            .withdraw(&approval_id("a"), Ended::Withdrawn, START)
            .is_empty()
    );
}

#[test]
fn whoever_asks_does_not_answer() {
    let mut approvals = Approvals::default();
    let requester = Requester {
        connection: Some("c1".into()),
        device: None,
    };
    let asked = NewApproval { requester, ..new("a") };
    approvals.request(asked, START).expect("asked");
    let own = answer(
        &mut approvals,
        &operator(Scope::Admin, "c1"),
        "a",
        Decision::AllowOnce,
        START,
    );
    assert_eq!(own, Err(ApprovalError::NotYours));
    let other = answer(
        &mut approvals,
        &operator(Scope::Approvals, "c2"),
        "a",
        Decision::AllowOnce,
        START,
    );
    assert_eq!(
        other,
        Err(ApprovalError::NotYours),
        "another's question takes an administrator"
    );
    assert_eq!(
        approvals
            .list(&operator(Scope::Approvals, "c2"))
            .as_array()
            .map(Vec::len),
        Some(0)
    );
    assert!(
        answer(
            &mut approvals,
            &operator(Scope::Admin, "c2"),
            "a",
            Decision::AllowOnce,
            START
        )
        .is_ok()
    );
}

#[test]
fn an_agent_sees_no_question_and_answers_none() {
    let approvals = asked("a");
    let agent = Principal::agent(
        AgentId::new("main").expect("an id"),
        SessionKey::new("agent:main:main").expect("a key"),
    );
    assert!(!approvals.find(&approval_id("a")).expect("asked").is_for(&agent));
    let stranger = Principal::sender("telegram", "main", "2", false);
    assert!(!approvals.find(&approval_id("a")).expect("asked").is_for(&stranger));
}

#[test]
fn a_yes_belongs_to_the_node_and_to_whoever_asked() {
    let mut approvals = Approvals::default();
    let device = Some(DeviceId::from_digest([8; 32]));
    let requester = Requester {
        connection: Some("c1".into()),
        device,
    };
    let asked = NewApproval {
        requester: requester.clone(),
        ..new("a")
    };
    approvals.request(asked, START).expect("asked");
    answer(&mut approvals, &owner(), "a", Decision::AllowOnce, START).expect("answered");
    let mut try_with = |node, by| {
        let spend = Spend {
            call: call("c"),
            node,
            by,
        };
        approvals.consume(&approval_id("a"), &spend, START).map(|_| ())
    };
    assert_eq!(try_with(None, requester.clone()), Err(SpendError::NodeMismatch));
    assert_eq!(
        try_with(Some(node()), Requester::default()),
        Err(SpendError::DeviceMismatch)
    );
    let reconnected = Requester {
        connection: Some("c2".into()),
        device,
    };
    assert_eq!(try_with(Some(node()), reconnected), Ok(()));
}

#[test]
fn always_means_exactly_the_same_and_still_one_use_each() {
    let mut approvals = asked("a");
    answer(&mut approvals, &owner(), "a", Decision::AllowAlways, START).expect("answered");
    let changes = approvals.request(new("b"), START + 1).expect("asked");
    assert!(
        !changes
            .iter()
            .any(|change| matches!(change, ApprovalChange::Event { .. })),
        "nobody is asked"
    );
    assert!(approvals.consume(&approval_id("b"), &spend("c"), START + 1).is_ok());
    assert!(approvals.consume(&approval_id("b"), &spend("d"), START + 1).is_err());

    let changed: [fn(&mut Question); 6] = [
        |question| question.node = None,
        |question| question.agent = None,
        |question| question.argv.push("-x".into()),
        |question| question.cwd = None,
        |question| question.env_sha256 = [9; 32],
        |question| question.stdin_sha256 = [9; 32],
    ];
    for (n, change) in changed.into_iter().enumerate() {
        let mut other = new(&format!("o{n}"));
        change(&mut other.question);
        approvals.request(other, START + 2).expect("asked");
        assert!(
            approvals
                .find(&approval_id(&format!("o{n}")))
                .expect("asked")
                .is_pending(),
            "{n}"
        );
    }

    let id = approval_id("a");
    let revoke = decide(&owner(), ResolveApproval { id }, &Policy::default(), 0).expect("an owner");
    approvals.revoke_grant(&revoke).expect("revoked");
    approvals.request(new("e"), START + 3).expect("asked");
    assert!(approvals.find(&approval_id("e")).expect("asked").is_pending());
}

#[test]
fn always_is_no_answer_where_it_was_not_offered() {
    let mut approvals = Approvals::default();
    let mut once = new("a");
    once.question.offers_always = false;
    let changes = approvals.request(once, START).expect("asked");
    assert_eq!(
        event(&changes).1["request"]["allowedDecisions"],
        serde_json::json!(["allow-once", "deny"])
    );
    let always = answer(&mut approvals, &owner(), "a", Decision::AllowAlways, START);
    assert_eq!(always, Err(ApprovalError::NotOffered));
    assert_eq!(approvals.grants().count(), 0);
}

#[test]
fn questions_are_bounded_and_an_id_is_asked_once() {
    let mut approvals = Approvals::default();
    for n in 0..PENDING {
        approvals.request(new(&format!("a{n}")), START).expect("asked");
    }
    assert_eq!(approvals.request(new("one more"), START), Err(ApprovalError::TooMany));
    assert_eq!(approvals.request(new("a0"), START), Err(ApprovalError::IdTaken));
    let end = START + limits::APPROVAL.as_millis() as u64;
    assert!(approvals.request(new("later"), end).is_ok());
}

#[test]
fn everything_survives_a_restart() {
    let mut approvals = asked("pending");
    let mut other = new("always");
    other.question.argv = vec!["/bin/true".into()];
    approvals.request(other, START).expect("asked");
    answer(&mut approvals, &owner(), "always", Decision::AllowAlways, START).expect("answered");
    approvals
        .consume(&approval_id("always"), &spend("c"), START)
        .expect("used");
    approvals.request(new("gone"), START).expect("asked");
    approvals.withdraw(&approval_id("gone"), Ended::NoRoute, START);

    let stored: Vec<String> = approvals
        .all
        .values()
        .map(|approval| serde_json::to_string(&StoredApproval::from(approval.clone())).expect("writes"))
        .collect();
    let grants: Vec<String> = approvals
        .grants()
        .map(|grant| serde_json::to_string(&StoredGrant::from(grant.clone())).expect("writes"))
        .collect();
    let read = |text: &String| serde_json::from_str::<StoredApproval>(text).expect("reads").into();
    let read_grant = |text: &String| serde_json::from_str::<StoredGrant>(text).expect("reads").into();
    let mut back = Approvals::restore(stored.iter().map(read), grants.iter().map(read_grant));
    assert_eq!(back.all, approvals.all);
    assert!(back.grants().eq(approvals.grants()));
    assert!(answer(&mut back, &owner(), "pending", Decision::AllowOnce, START + 1).is_ok());
    assert_eq!(
        back.consume(&approval_id("always"), &spend("d"), START)
            .expect_err("used before the restart"),
        SpendError::Required
    );
}

#[test]
fn the_rows_have_the_shapes_that_clients_read() {
    let approvals = asked("a");
    let approval = approvals.find(&approval_id("a")).expect("asked");
    let row = &approvals.list(&operator(Scope::Approvals, "c"))[0];
    assert_eq!(row["id"], "a");
    assert_eq!(row["request"]["host"], "node");
    assert_eq!(row["request"]["systemRunBinding"]["envHash"], "01".repeat(32));
    assert_eq!(row["request"]["systemRunPlan"]["argv"][1], "-a");
    assert_eq!(rows::detail(approval)["commandText"], "uname -a");
    assert_eq!(rows::accepted(approval)["status"], "accepted");
    let unknown = ApprovalError::Unknown.to_wire();
    assert_eq!(unknown.code.as_str(), "INVALID_REQUEST");
    assert_eq!(unknown.details.expect("details").tree()["reason"], "APPROVAL_NOT_FOUND");
}

#[test]
fn a_plan_is_for_one_node_one_call_and_a_while_and_signed_by_one_gateway() {
    let mut approvals = asked("a");
    answer(&mut approvals, &owner(), "a", Decision::AllowOnce, START).expect("answered");
    assert_eq!(
        plan_of(approvals.find(&approval_id("a")).expect("asked")),
        None,
        "not before it is used"
    );
    let (used, _) = approvals.consume(&approval_id("a"), &spend("c"), START).expect("used");
    let plan = plan_of(&used).expect("used, for a node");
    let gateway = Identity::from_seed(&[1; 32]);
    let signed = sign_plan(&gateway, &plan);
    let (right, wrong) = (call("c"), call("d"));
    let check = |key: &Identity, node, call, now_ms| {
        verify_plan(&key.public_key(), &signed, Expectation { node, call, now_ms })
    };
    assert_eq!(check(&gateway, node(), &right, START), Ok(plan.clone()));
    assert_eq!(
        check(&Identity::from_seed(&[2; 32]), node(), &right, START),
        Err(PlanError::Signature)
    );
    assert_eq!(
        check(&gateway, DeviceId::from_digest([4; 32]), &right, START),
        Err(PlanError::Node)
    );
    assert_eq!(check(&gateway, node(), &wrong, START), Err(PlanError::Call));
    assert_eq!(
        check(&gateway, node(), &right, plan.expires_at_ms),
        Err(PlanError::Expired)
    );
    for index in 0..signed.plan.len() {
        let mut altered = signed.clone();
        altered.plan[index] ^= 1;
        let expected = Expectation {
            node: node(),
            call: &right,
            now_ms: START,
        };
        assert_eq!(
            verify_plan(&gateway.public_key(), &altered, expected),
            Err(PlanError::Signature)
        );
    }
}

#[derive(Debug, Clone)]
enum Op {
    Ask,
    Answer(Index, u8, bool),
    Spend(Index, u8),
    Pass(u64),
    Withdraw(Index),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Ask),
        4 => (any::<Index>(), 0..4_u8, any::<bool>()).prop_map(|(which, who, yes)| Op::Answer(which, who, yes)),
        5 => (any::<Index>(), 0..3_u8).prop_map(|(which, call)| Op::Spend(which, call)),
        1 => (0..40_u64).prop_map(|minutes| Op::Pass(minutes * 60_000)),
        1 => any::<Index>().prop_map(Op::Withdraw),
    ]
}

proptest! {
    /// Each question is asked through connection `c1`; principals 2 and 3 are entitled, 0 is the requester, 1 holds too little.
    #[test]
    fn nothing_runs_twice_nor_without_a_yes_of_somebody_entitled(ops in proptest::collection::vec(any_op(), 1..80)) {
        let people = [
            operator(Scope::Admin, "c1"),
            operator(Scope::Approvals, "c2"),
            operator(Scope::Admin, "c3"),
            owner(),
        ];
        let requester = Requester { connection: Some("c1".into()), device: None };
        let (mut approvals, mut now, mut asked) = (Approvals::default(), START, 0);
        let mut allowed = std::collections::BTreeSet::new();
        let mut used: BTreeMap<String, u8> = BTreeMap::new();
        for op in ops {
            let pick = |which: Index| (asked > 0).then(|| format!("a{}", which.index(asked)));
            match op {
                Op::Ask => {
                    let mut question = new(&format!("a{asked}"));
                    question.requester = requester.clone();
                    approvals.request(question, now).expect("asked");
                    asked += 1;
                }
                Op::Answer(which, who, yes) => if let Some(id) = pick(which) {
                    let decision = if yes { Decision::AllowOnce } else { Decision::Deny };
                    let answered = answer(&mut approvals, &people[usize::from(who)], &id, decision, now).is_ok();
                    prop_assert!(!answered || who >= 2);
                    if answered && yes {
                        allowed.insert(id);
                    }
                },
                Op::Spend(which, by) => if let Some(id) = pick(which) {
                    let spend = Spend { call: call(&format!("c{by}")), node: Some(node()), by: requester.clone() };
                    if approvals.consume(&approval_id(&id), &spend, now).is_ok() {
                        prop_assert!(allowed.contains(&id));
                        prop_assert_eq!(*used.entry(id).or_insert(by), by, "one call per yes");
                    }
                },
                Op::Pass(ms) => {
                    now += ms;
                    approvals.expire(now);
                }
                Op::Withdraw(which) => if let Some(id) = pick(which) {
                    approvals.withdraw(&approval_id(&id), Ended::Withdrawn, now);
                },
            }
        }
    }
}
