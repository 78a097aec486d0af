//! One key, one call.

use super::*;

atoll_tests::over_every_pipe! {
    the_same_call_at_once_and_later_runs_once_and_gives_all_the_same_result,
    a_call_that_never_left_may_be_tried_again_with_its_key,
    a_failure_of_the_node_is_repeated_as_it_was,
}

async fn the_same_call_at_once_and_later_runs_once_and_gives_all_the_same_result(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let (mut one, mut other) = (ring.mesh.operator().await, ring.mesh.operator().await);
    let invoke = ring.invoke(MARKING, json!({}));
    let first = one.ask("node.invoke", invoke.clone()).await;
    ring.begun().await;
    let second = other.ask("node.invoke", invoke.clone()).await;
    let mut changed = invoke.clone();
    changed["params"]["command"] = json!(["true"]);
    let error = other
        .call("node.invoke", changed.clone())
        .await
        .expect_err("another call");
    assert_eq!(error["details"]["code"], "IDEMPOTENCY_CONFLICT", "{error}");
    ring.go();
    for (operator, id) in [(&mut one, &first), (&mut other, &second)] {
        let answer = operator.answer(id).await.expect("a result");
        assert_eq!(answer["payload"]["stdout"], "done\n", "{answer}");
    }
    let again = one.call("node.invoke", invoke.clone()).await.expect("the first result");
    assert_eq!(again["payload"]["stdout"], "done\n");

    ring.mesh.kill().await;
    ring.mesh.run().await;
    let mut operator = ring.mesh.operator().await;
    let again = operator.call("node.invoke", invoke).await.expect("the first result");
    assert_eq!(again["payload"]["stdout"], "done\n");
    let error = operator.call("node.invoke", changed).await.expect_err("another call");
    assert_eq!(error["details"]["code"], "IDEMPOTENCY_CONFLICT", "{error}");
    assert_eq!(ring.marks(), 1);
}

async fn a_call_that_never_left_may_be_tried_again_with_its_key(pipe: Pipe) {
    let mut ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    ring.node.stop().await;
    ring.away(&mut operator).await;
    let invoke = ring.invoke("echo x >> marks; echo here", json!({}));
    let error = operator.call("node.invoke", invoke.clone()).await.expect_err("away");
    assert_eq!(error["details"]["code"], "NOT_CONNECTED", "{error}");
    ring.node.run();
    ring.mesh.connected("laptop").await;
    let answer = operator.call("node.invoke", invoke).await.expect("a result");
    assert_eq!(answer["payload"]["stdout"], "here\n");
    assert_eq!(ring.marks(), 1);
}

async fn a_failure_of_the_node_is_repeated_as_it_was(pipe: Pipe) {
    let ring = Ring::new(pipe).await;
    let mut operator = ring.mesh.operator().await;
    let mut invoke = ring.invoke("true", json!({}));
    invoke["params"] = json!({"command": "not an array"});
    let first = operator
        .call("node.invoke", invoke.clone())
        .await
        .expect_err("refused there");
    let second = operator.call("node.invoke", invoke).await.expect_err("refused there");
    assert_eq!(first, second);
}
