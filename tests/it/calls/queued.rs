//! Calls that wait for a node which is away.

use super::*;

atoll_tests::over_every_pipe! {
    a_call_waits_for_its_node_and_runs_when_it_comes,
    a_call_that_waits_survives_a_kill_of_the_gateway,
    a_call_whose_node_does_not_come_ends_at_its_time_and_never_runs,
    a_call_that_waits_is_decided_by_the_rules_of_when_it_goes,
    a_call_that_waits_can_be_called_off,
    a_call_that_may_wait_goes_at_once_where_its_node_is_there,
}

fn for_a_while() -> Value {
    json!({"offline": {"queueUntil": now_ms() + 120_000}})
}

async fn a_call_waits_for_its_node_and_runs_when_it_comes(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    ring.node.stop().await;
    ring.away(&mut operator).await;
    let started = now_ms();
    let id = operator
        .ask("node.invoke", ring.invoke("echo x >> marks; echo back", for_a_while()))
        .await;
    let first = operator.answer(&id).await.expect("accepted");
    assert_eq!(
        (&first["status"], &first["state"]),
        (&json!("accepted"), &json!("queued")),
        "{first}"
    );
    let row = ring.row(&mut operator).await;
    assert_eq!(
        (&row["state"], &row["callId"]),
        (&json!("queued"), &first["callId"]),
        "{row}"
    );
    assert_eq!(
        row["deadlineMs"].as_u64().map(|at| at > started + 60_000),
        Some(true),
        "{row}"
    );
    ring.node.run();
    let last = operator.answer(&id).await.expect("a result");
    assert_eq!(last["payload"]["stdout"], "back\n", "{last}");
    ring.state(&mut operator, "ok").await;
    assert_eq!(ring.marks(), 1);
}

async fn a_call_that_waits_survives_a_kill_of_the_gateway(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    ring.node.stop().await;
    ring.away(&mut operator).await;
    let invoke = ring.invoke("echo x >> marks; echo back", for_a_while());
    operator.call("node.invoke", invoke.clone()).await.expect("accepted");
    ring.mesh.kill().await;
    ring.mesh.run().await;
    let mut operator = ring.mesh.operator().await;
    assert_eq!(ring.row(&mut operator).await["state"], "queued");
    ring.node.run();
    ring.state(&mut operator, "ok").await;
    let again = operator.call("node.invoke", invoke).await.expect("the first result");
    assert_eq!(again["payload"]["stdout"], "back\n");
    assert_eq!(ring.marks(), 1);
}

async fn a_call_whose_node_does_not_come_ends_at_its_time_and_never_runs(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    ring.node.stop().await;
    ring.away(&mut operator).await;
    let until = json!({"offline": {"queueUntil": now_ms() + 1_500}});
    let id = operator.ask("node.invoke", ring.invoke(MARKING, until)).await;
    operator.answer(&id).await.expect("accepted");
    let error = operator.answer(&id).await.expect_err("nobody came");
    assert_eq!(error["details"]["code"], "NOT_CONNECTED", "{error}");
    ring.state(&mut operator, "node away").await;
    ring.node.run();
    ring.mesh.connected("laptop").await;
    assert_eq!(ring.marks(), 0);
    for wrong in [
        json!({"queueUntil": now_ms() - 1}),
        json!({"queueUntil": now_ms() * 2}),
        json!("sometimes"),
    ] {
        let invoke = ring.invoke(MARKING, json!({"offline": wrong}));
        let error = operator.call("node.invoke", invoke).await.expect_err("no such wait");
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    }
}

async fn a_call_that_waits_is_decided_by_the_rules_of_when_it_goes(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    ring.node.stop().await;
    ring.away(&mut operator).await;
    let invoke = ring.invoke(MARKING, for_a_while());
    operator.call("node.invoke", invoke).await.expect("accepted");
    ring.mesh.kill().await;
    let rules = json!({"gateway": {"nodes": {"commands": {"deny": ["system.run"]}}}});
    std::fs::write(ring.mesh.state().join("atoll.json"), rules.to_string()).expect("a writable folder");
    ring.mesh.run().await;
    ring.node.run();
    let mut operator = ring.mesh.operator().await;
    ring.state(&mut operator, "error").await;
    assert_eq!(ring.marks(), 0);
}

async fn a_call_that_waits_can_be_called_off(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    ring.node.stop().await;
    ring.away(&mut operator).await;
    let id = operator.ask("node.invoke", ring.invoke(MARKING, for_a_while())).await;
    let call = operator.answer(&id).await.expect("accepted")["callId"].take();
    let shown = ring.mesh.cli(&["nodes", "cancel", call.as_str().expect("an id")]).await;
    assert!(shown.status.success(), "{shown:?}");
    operator.answer(&id).await.expect_err("called off");
    ring.state(&mut operator, "cancelled").await;
    ring.node.run();
    ring.mesh.connected("laptop").await;
    assert_eq!(ring.marks(), 0);
}

async fn a_call_that_may_wait_goes_at_once_where_its_node_is_there(pipe: Pipe) {
    let ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    let answer = operator
        .call("node.invoke", ring.invoke("echo here", for_a_while()))
        .await
        .expect("a result");
    assert_eq!(answer["payload"]["stdout"], "here\n", "{answer}");
}
