//! The daemon as a node of an OpenClaw gateway.

use super::*;

#[tokio::test]
async fn it_comes_again_until_it_is_approved_and_then_keeps_its_own_token() {
    let (gateway, folder) = (TestGateway::new().await, state(None));
    let mut node = Node::start(&gateway, folder.path(), Dialect::Openclaw);
    let guest = gateway.guest().await.expect("proven");
    let gone = guest.wait(&pairing(&node.identity)).await.expect("told");
    assert!(gone.is_none(), "the dialect does not wait on the link");
    let waiting = node.notice(|notice| matches!(notice, Notice::Waiting { .. })).await;
    assert!(matches!(waiting, Notice::Waiting { request, digits: None, is_held: false } if request == "p1"));
    let guest = gateway.guest().await.expect("it comes again by itself");
    let client = &guest.proven().claims().client;
    assert_eq!((client.id.as_str(), client.mode.as_str()), ("node-host", "node"));
    let link = admit(guest).await;
    node.notice(|notice| matches!(notice, Notice::Connected { .. })).await;
    let kept = std::fs::read_to_string(folder.path().join("gateways.json")).expect("written");
    assert!(kept.contains("device-token-1"));
    drop(link);
    admit(gateway.guest().await.expect("back again")).await;
}

#[tokio::test]
async fn a_run_is_told_as_finished_or_denied_before_its_result() {
    let rules = json!({"version":1,"defaults":{"allowlist":[{"pattern":"echo"}]}});
    let (gateway, folder) = (TestGateway::new().await, state(Some(rules)));
    let node = Node::start(&gateway, folder.path(), Dialect::Openclaw);
    let mut link = admit(gateway.guest().await.expect("proven")).await;
    let cases = [
        ("c1", json!(["echo", "hi"]), "exec.finished"),
        ("c2", json!(["sh", "-c", "id"]), "exec.denied"),
    ];
    for (call, command, event) in cases {
        let params = json!({"command":command,"runId":format!("run-{call}"),"sessionKey":"agent:main:main"});
        link.send(&node.invoke(call, "system.run", params)).await.expect("sent");
        let told = loop {
            let frame = next(&mut link).await;
            assert!(!matches!(frame, Frame::Outcome(_)), "the event comes first");
            if let Frame::Request(request) = frame {
                break request;
            }
        };
        assert_eq!(told.method, "node.event");
        let told = told.params.expect("params").tree();
        assert_eq!(told["event"], event);
        let payload: Value = serde_json::from_str(told["payloadJSON"].as_str().expect("text")).expect("JSON");
        assert_eq!(
            (&payload["runId"], &payload["host"]),
            (&json!(format!("run-{call}")), &json!("node"))
        );
        assert_eq!(outcome(&mut link, call).await.is_ok(), event == "exec.finished");
    }
}
