//! A stream without an end, from a scripted native node to those who watch it over HTTP.

use std::sync::Arc;
use std::time::Duration;

use atoll_pairing::dial::{Dial, Speak, dial};
use atoll_pairing::handshake::Ask;
use atoll_pairing::identity::Identity;
use atoll_pairing::link::stream::{Incoming, StreamTx};
use atoll_pairing::link::{Link, Received};
use atoll_protocol::capability::Surface;
use atoll_protocol::frame::{ClientInfo, Frame, Invoke, Outcome, Resume};
use atoll_protocol::scope::{Role, Scopes};
use atoll_tests::mesh::{Mesh, Pipe, admit};
use atoll_tests::wait::{PATIENCE, within};
use bytes::Bytes;
use reqwest::{Client, Response};
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::mpsc;

use super::token;

atoll_tests::over_every_pipe! {
    one_stream_of_a_node_serves_all_who_watch_and_ends_with_the_last,
}

/// A command that a Linux node may have without further configuration.
const COMMAND: &str = "device.status";

/// A node that does what the test says.
struct Camera {
    films: Incoming,
    told: mpsc::Receiver<Invoke>,
    say: mpsc::Sender<Frame>,
}

impl Camera {
    async fn pair(mesh: &Mesh, pipe: Pipe) -> Self {
        let mut operator = mesh.operator().await;
        let approving = admit(&mut operator, "camera", PATIENCE);
        let plan = plan(mesh, pipe);
        let dialling = within("the gateway to let the camera in", async {
            let mut dialled = dial(&plan, |_| {}).await.expect("let in");
            let streams = dialled.link.take_streams().expect("native");
            // Who does not know what it had before is not called.
            dialled
                .link
                .send(&Frame::Resume(Resume::default()))
                .await
                .expect("sent");
            (dialled.link, streams)
        });
        let (_, (link, (_streams, films))) = tokio::join!(approving, dialling);
        let (tell, told) = mpsc::channel(8);
        let (say, said) = mpsc::channel(8);
        tokio::spawn(run(link, tell, said));
        Self { films, told, say }
    }

    async fn film(&mut self) -> StreamTx {
        within("somebody to watch", self.films.accept())
            .await
            .expect("linked")
            .1
    }
}

fn plan(mesh: &Mesh, pipe: Pipe) -> Dial {
    let surface = Surface {
        caps: vec!["device".to_owned()],
        commands: vec![COMMAND.to_owned()],
        ..Surface::default()
    };
    let client = ClientInfo {
        id: "atoll-node".to_owned(),
        mode: "node".to_owned(),
        version: "0".to_owned(),
        platform: "linux".to_owned(),
        device_family: "Linux".to_owned(),
        display_name: "camera".to_owned(),
        ..ClientInfo::default()
    };
    Dial {
        target: pipe.address(mesh.target().port).parse().expect("an address"),
        first: None,
        identity: Some(Arc::new(Identity::from_seed(&[9; 32]))),
        ask: Ask {
            role: Role::Node,
            scopes: Scopes::none(),
            client,
            surface,
            path_env: String::new(),
        },
        speak: Speak::Native {
            pin: None,
            token: Some(SecretString::from(token())),
            setup_code: None,
        },
    }
}

async fn run(link: Link, tell: mpsc::Sender<Invoke>, mut said: mpsc::Receiver<Frame>) {
    let (mut tx, mut rx) = link.split();
    let reading = async {
        while let Ok(received) = rx.recv().await {
            if let Received::Frame(Frame::Invoke(invoke)) = received {
                let _ = tell.send(invoke).await;
            }
        }
    };
    let writing = async {
        loop {
            let frame = tokio::select! {
                frame = said.recv() => frame,
                () = tx.streams_due() => None,
            };
            let fed = match frame {
                Some(frame) => tx.feed(&frame).await,
                None => tx.feed_streams().await,
            };
            if fed.is_err() || tx.flush().await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = reading => (), () = writing => () }
}

async fn watch(mesh: &Mesh, id: &str) -> Response {
    let url = format!("{}/media/{id}", mesh.target().http());
    let request = Client::new().get(url).bearer_auth(token());
    within("an answer", request.send()).await.expect("an answer")
}

/// What comes until it ends with `end`.
async fn read_until(response: &mut Response, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let part = within(end, response.chunk()).await.expect("a body");
        text.push_str(&String::from_utf8_lossy(&part.expect("not over yet")));
    }
    text
}

async fn one_stream_of_a_node_serves_all_who_watch_and_ends_with_the_last(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let mut camera = Camera::pair(&mesh, pipe).await;
    let mut operator = mesh.operator().await;
    let node = mesh.connected("camera").await;
    let request = json!({"nodeId": node, "command": COMMAND, "idempotencyKey": "k", "blobs": "handles"});
    let calling = operator.call("node.invoke", request);
    let answering = async {
        let invoke = within("the call", camera.told.recv()).await.expect("linked");
        let result = json!({"blob": {"id": "cam", "kind": "stream", "mime": "video/x-test"}});
        let outcome = Outcome {
            call: invoke.call,
            result: Ok(Some(result.into())),
            receipt: None,
        };
        camera.say.send(Frame::Outcome(outcome)).await.expect("linked");
    };
    let (answer, ()) = tokio::join!(calling, answering);
    let answer = answer.expect("a result");
    let id = answer["payload"]["blob"]["id"].as_str().expect("a handle").to_owned();

    let mut first = watch(&mesh, &id).await;
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["content-type"], "video/x-test");
    assert_eq!(first.content_length(), None);
    let mut film = camera.film().await;
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    film.send_key(text("K1")).await.expect("watched");
    film.send(text("a")).await.expect("watched");
    assert_eq!(read_until(&mut first, "a").await, "K1a");
    film.send_key(text("K2")).await.expect("watched");
    assert_eq!(read_until(&mut first, "K2").await, "K2");
    let mut late = watch(&mesh, &id).await;
    assert_eq!(read_until(&mut late, "K2").await, "K2", "from the newest beginning on");
    film.send(text("b")).await.expect("watched");
    assert_eq!(read_until(&mut first, "b").await, "b");
    assert_eq!(read_until(&mut late, "b").await, "b");
    drop(first);
    film.send(text("c")).await.expect("one still watches");
    assert_eq!(read_until(&mut late, "c").await, "c");
    drop(late);
    // Nobody can tell that a reader has gone before something is written to it.
    let filming = async {
        while film.send(text("d")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    };
    within("the node to be told that nobody watches", filming).await;
    assert_eq!(watch(&mesh, &id).await.status(), 404);
}
