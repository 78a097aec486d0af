//! Calls that outlive their link.

use super::*;

/// A command that leaves a mark, says so, and waits for `go`.
fn waiting_command(folder: &Path) -> Value {
    let script = "echo begun; echo x >> marks; while [ ! -e go ]; do sleep 0.02; done; echo done";
    json!({"command":["sh","-c",script],"cwd":folder})
}

fn acknowledge(call: &str) -> Frame {
    Frame::Acknowledge(Acknowledge {
        call: CallId::new(call).expect("fits"),
        receipt: None,
        ignored: false,
    })
}

#[tokio::test]
async fn a_call_goes_on_without_a_link_and_its_result_is_offered_until_it_is_acknowledged() {
    let (gateway, folder) = (TestGateway::new().await, state(open()));
    let node = Node::start(&gateway, folder.path(), Dialect::Native);
    let call = CallId::new("c1").expect("fits");
    let (mut link, first) = gateway.admit().await;
    let invoke = node.invoke("c1", "system.run", waiting_command(folder.path()));
    link.send(&invoke).await.expect("sent");
    assert!(
        matches!(next(&mut link).await, Frame::Output(output) if output.bytes == "begun\n".as_bytes() && output.seq == 0)
    );
    drop(link);

    let (mut link, resume) = gateway.admit().await;
    assert_eq!((&resume.boot, &resume.running), (&first.boot, &vec![call.clone()]));
    link.send(&invoke)
        .await
        .expect("sent again, which a gateway should not do");
    drop(link);
    std::fs::write(folder.path().join("go"), "").expect("written");

    let (mut link, _) = gateway.admit().await;
    assert_eq!(
        outcome(&mut link, "c1").await.expect("a result")["stdout"],
        "begun\ndone\n"
    );
    drop(link);

    let (mut link, resume) = gateway.admit().await;
    assert_eq!((resume.running, resume.finished), (Vec::new(), vec![call]));
    assert_eq!(
        outcome(&mut link, "c1").await.expect("offered again")["stdout"],
        "begun\ndone\n"
    );
    link.send(&acknowledge("c1")).await.expect("sent");
    link.send(&invoke).await.expect("sent again");
    link.send(&Frame::Ping(1)).await.expect("sent");
    assert_eq!(
        next(&mut link).await,
        Frame::Pong(1),
        "nothing runs and nothing is offered"
    );
    drop(link);

    let (_link, resume) = gateway.admit().await;
    assert_eq!((resume.running, resume.finished), (Vec::new(), Vec::new()));
    let marks = std::fs::read_to_string(folder.path().join("marks")).expect("marked");
    assert_eq!(marks, "x\n", "it ran once");
}

#[tokio::test]
async fn a_gateway_that_says_nothing_for_two_ticks_is_given_up() {
    let (gateway, folder) = (TestGateway::new().await, state(None));
    let mut node = Node::start(&gateway, folder.path(), Dialect::Native);
    let guest = gateway.guest().await.expect("proven");
    let admitted = Admitted {
        tick_ms: 100,
        ..admitted(Surface::default())
    };
    let mut mute = guest.admit(admitted, |_| HelloOk::default()).await.expect("a link");
    let silent = |notice: &Notice| matches!(notice, Notice::Retrying { why, .. } if why.contains("silent"));
    node.notice(silent).await;
    assert!(matches!(next(&mut mute).await, Frame::Resume(_)));
    assert!(matches!(next(&mut mute).await, Frame::Ping(_)), "it was asked first");
    gateway.admit().await;
}
