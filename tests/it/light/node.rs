//! Nodes that are away, die, or are told to stop.

use atoll_tests::mesh::Pipe;
use atoll_tests::scene::{OWNER, Scene, Setting};
use atoll_tests::wait::until;

atoll_tests::over_every_pipe! {
    a_command_for_an_absent_node_is_refused_at_once_and_runs_nowhere,
    a_node_killed_in_mid_run_leaves_one_visible_uncertainty_and_no_second_run,
    a_node_that_leaves_before_the_yes_makes_it_a_clear_no,
    stop_kills_the_process_on_the_node,
    stop_withdraws_a_question_that_waits,
}

async fn a_command_for_an_absent_node_is_refused_at_once_and_runs_nowhere(pipe: Pipe) {
    let mut scene = Setting::default().over(pipe).start().await;
    scene.node.kill().await;
    scene.node_away().await;
    scene.ask("nowhere");
    let answer = scene.answer("nowhere").await;
    assert!(answer.contains("not connected"), "{answer}");
    assert_eq!(scene.runs("nowhere"), 0, "it must not run on the gateway instead");
    assert!(!scene.telegram.sent(OWNER).iter().any(|sent| !sent.buttons.is_empty()));
}

async fn a_node_that_leaves_before_the_yes_makes_it_a_clear_no(pipe: Pipe) {
    let mut scene = Scene::over(pipe).await;
    scene.ask("gone");
    let card = scene.card("gone").await;
    scene.node.kill().await;
    scene.node_away().await;
    scene.press(&scene.owner, &card, "Allow once");
    let answer = scene.answer("gone").await;
    assert!(answer.contains("not connected"), "{answer}");
    assert_eq!(scene.runs("gone"), 0);
}

async fn a_node_killed_in_mid_run_leaves_one_visible_uncertainty_and_no_second_run(pipe: Pipe) {
    let mut scene = Setting::default().over(pipe).start().await;
    scene.write(&scene.job("torn", "exec sleep 5"));
    scene.allow("torn").await;
    scene.begun("torn").await;
    scene.node.kill().await;
    scene.node.run();
    let answer = scene.answer("torn").await;
    assert!(answer.contains("uncertain"), "{answer}");
    // The node is of use again, and what was torn stays torn.
    scene.mesh.connected(atoll_tests::scene::NODE).await;
    scene.ask("after");
    scene.allow("after").await;
    assert_eq!(scene.answer("after").await, "finished after: it ran");
    assert_eq!(scene.runs("torn"), 1);
    let answers = scene
        .telegram
        .sent(OWNER)
        .into_iter()
        .filter(|sent| sent.text.starts_with("finished torn"))
        .count();
    assert_eq!(answers, 1);
}

async fn stop_kills_the_process_on_the_node(pipe: Pipe) {
    let scene = Scene::over(pipe).await;
    let pid_file = scene.mark("pid");
    scene.write(&scene.job(
        "long",
        &format!("echo $$ > {}; sleep 60; echo over", pid_file.display()),
    ));
    scene.allow("long").await;
    let pid: u32 = until("the process id", async || {
        std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok()
    })
    .await;
    let alive = || std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(alive());
    scene.write("/stop");
    until("the process to be gone", async || (!alive()).then_some(())).await;
    scene.said("Stopped").await;
    // The lane is free again.
    scene.write("hello");
    scene.said("I heard: hello").await;
    assert_eq!(scene.runs("long"), 1);
}

async fn stop_withdraws_a_question_that_waits(pipe: Pipe) {
    let scene = Scene::over(pipe).await;
    scene.ask("unanswered");
    let card = scene.card("unanswered").await;
    scene.write("/stop");
    let withdrawn = scene.said("Withdrawn").await;
    assert_eq!(withdrawn.message, card.message);
    scene.write("hello");
    scene.said("I heard: hello").await;
    assert_eq!(scene.runs("unanswered"), 0);
}
