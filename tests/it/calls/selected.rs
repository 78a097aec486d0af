//! Naming a node by what it is.

use super::*;

atoll_tests::over_every_pipe! {
    the_command_line_finds_nodes_by_name_id_address_and_kind,
}

async fn which(mesh: &Mesh, node: &str) -> std::process::Output {
    let params = json!({"bins": ["sh"]}).to_string();
    let command = [
        "nodes",
        "invoke",
        "--node",
        node,
        "--command",
        "system.which",
        "--params",
        &params,
    ];
    mesh.cli(&[&command[..], &["--json"]].concat()).await
}

async fn the_command_line_finds_nodes_by_name_id_address_and_kind(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _laptop = mesh.node("laptop").await;
    let _builder = mesh.node("builder").await;
    let (laptop, builder) = (mesh.connected("laptop").await, mesh.connected("builder").await);
    for (asked, expected) in [
        ("laptop", &laptop),
        (&builder[..12], &builder),
        ("any", &builder),
        ("any,os=linux,cmd=system.which", &builder),
        ("os=linux,laptop", &laptop),
    ] {
        let output = which(&mesh, asked).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{asked}: {output:?}"));
        assert_eq!(answer["nodeId"], **expected, "{asked}");
    }
    for (asked, words) in [
        ("os=linux", ["laptop (", "builder ("]),
        ("127.0.0.1", ["laptop (", "builder ("]),
        ("os=windows", ["no node matches", "laptop ("]),
    ] {
        let output = which(&mesh, asked).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{asked}: {complaint}");
        assert!(
            words.iter().all(|word| complaint.contains(word)),
            "{asked}: {complaint}"
        );
    }
}
