//! Pages that agents show on a node: a real Chromium on a real X server, called by operators through a real gateway; what hostile pages
//! and a browser that dies cost.

use atoll_capabilities::capture::{Preview, preview};
use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wait::until;
use atoll_tests::xserver::XServer;
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::camera::{Studio, message};
use crate::screen::{is_like, pixel};

atoll_tests::over_every_pipe! {
    what_is_presented_is_on_the_screen_and_can_be_worked_with,
}

const ALL: [&str; 5] = ["present", "navigate", "hide", "eval", "snapshot"];

/// What both owners allow; browsers start as root only without their walls.
fn owners(canvas: Value) -> (Value, Value) {
    let config = json!({"gateway": {"nodes": {"commands": {"allow": ["canvas.eval", "canvas.snapshot"]}}}});
    let mut rules = json!({"commands": {"canvas": "allow", "screen.snapshot": "allow"}, "canvas": canvas});
    rules["canvas"]["arguments"] = json!(["--no-sandbox", "--disable-gpu"]);
    (config, rules)
}

/// A node with a screen that can be looked at.
async fn studio(pipe: Pipe, server: &XServer) -> Studio {
    let (config, rules) = owners(json!({}));
    Studio::within(pipe, config, rules, &[("DISPLAY", &server.display)]).await
}

/// A node without one.
async fn unseen() -> Studio {
    let (config, rules) = owners(json!({"headless": true}));
    Studio::under(Pipe::Quic, config, rules).await
}

async fn call(studio: &mut Studio, command: &str, params: Value) -> Result<Value, Value> {
    studio.invoke(&format!("canvas.{command}"), params, 40_000).await
}

async fn eval(studio: &mut Studio, code: &str) -> String {
    let result = call(studio, "eval", json!({"javaScript": code})).await.expect(code);
    result["result"].as_str().expect("text").to_owned()
}

/// What a call that fails says.
async fn refused(studio: &mut Studio, command: &str, params: Value) -> String {
    let error = call(studio, command, params.clone()).await;
    message(&error.expect_err(&format!("{command} {params}")))
}

fn decoded(result: &Value) -> Preview {
    let bytes = STANDARD.decode(result["base64"].as_str().expect("base64"));
    let picture = preview(&bytes.expect("base64"), u32::MAX).expect("a picture");
    let told = [&result["width"], &result["height"]].map(Value::as_u64);
    let seen = [picture.width, picture.height].map(|side| Some(u64::from(side)));
    assert_eq!(told, seen, "{}", result["format"]);
    picture
}

fn page(colour: &str, words: &str) -> String {
    format!(
        "<title>{words}</title><body style='margin:0;background:{colour}'><p id=x>{words}</p><script>window.ran = 41</script>"
    )
}

async fn what_is_presented_is_on_the_screen_and_can_be_worked_with(pipe: Pipe) {
    let server = XServer::start(&["800x600x24"]).await;
    let mut studio = studio(pipe, &server).await;
    let empty = refused(&mut studio, "eval", json!({"javaScript": "1"})).await;
    assert!(empty.starts_with("CANVAS_EMPTY"), "{empty}");
    assert!(studio.children().is_empty(), "nothing is started before it is needed");

    let placement = json!({"x": 100, "y": 50, "width": 500, "height": 400});
    let html = page("#00a050", "planted");
    let shown = call(&mut studio, "present", json!({"html": html, "placement": placement})).await;
    assert_eq!(shown.expect("shown"), json!({"ok": true}));
    until("the page to be on the screen", async || {
        let seen = studio
            .invoke("screen.snapshot", json!({"format": "png"}), 30_000)
            .await
            .ok()?;
        is_like(pixel(&decoded(&seen), 350, 300), 0x00_A0_50).then_some(())
    })
    .await;
    assert_eq!(
        eval(&mut studio, "document.querySelector('#x').textContent").await,
        "planted"
    );
    assert_eq!(eval(&mut studio, "window.ran + 1").await, "42");
    assert_eq!(eval(&mut studio, "Promise.resolve({a: [1]})").await, "{\"a\":[1]}");
    assert_eq!(eval(&mut studio, "undefined").await, "undefined");
    assert_eq!(eval(&mut studio, "0 / 0").await, "NaN");

    for (params, colour, format) in [
        (json!({"format": "png"}), 0x00_A0_50, "png"),
        (json!({"maxWidth": 100, "quality": 0.5}), 0x00_A0_50, "jpeg"),
    ] {
        let picture = call(&mut studio, "snapshot", params.clone()).await.expect("a picture");
        assert_eq!(picture["format"], format);
        let seen = decoded(&picture);
        assert!(
            is_like(pixel(&seen, seen.width - 5, seen.height - 5), colour),
            "{params}"
        );
        assert!(format == "png" || seen.width == 100, "{}", seen.width);
    }

    let url = format!("data:text/html,{}", page("%23a00050", "second"));
    call(&mut studio, "navigate", json!({"url": url})).await.expect("shown");
    assert_eq!(eval(&mut studio, "document.title").await, "second");
    call(&mut studio, "present", json!({})).await.expect("the same page");
    assert_eq!(eval(&mut studio, "document.title").await, "second");

    call(&mut studio, "hide", Value::Null).await.expect("hidden");
    studio.is_tidy().await;
    let empty = refused(&mut studio, "snapshot", json!({})).await;
    assert!(empty.starts_with("CANVAS_EMPTY"), "{empty}");
    call(&mut studio, "hide", Value::Null).await.expect("hidden before");
}

#[tokio::test]
async fn what_belongs_to_the_device_is_not_shown() {
    let mut studio = unseen().await;
    for url in [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "chrome://version",
        "view-source:http://127.0.0.1/",
    ] {
        for command in ["present", "navigate"] {
            let error = refused(&mut studio, command, json!({"url": url})).await;
            assert!(error.starts_with("CANVAS_FOREIGN"), "{url}: {error}");
        }
    }
    assert!(studio.children().is_empty(), "nothing is started for what is refused");
    // Nor can a page get there by itself.
    call(&mut studio, "present", json!({"html": page("#fff", "first")}))
        .await
        .expect("shown");
    for code in [
        "location.href = 'file:///etc/passwd'; new Promise(end => setTimeout(end, 500, 'done'))",
        "open('file:///etc/passwd') === null ? 'done' : 'open'",
        "fetch('file:///etc/passwd').then(() => 'read', () => 'done')",
        "new Promise(end => { const f = document.createElement('iframe'); f.src = 'file:///etc/passwd'; document.body.append(f); \
         setTimeout(() => { try { end(f.contentDocument.body.textContent.includes('root:') ? 'read' : 'done') } catch { end('done') } }, 500) })",
        "navigator.mediaDevices?.getUserMedia({video: true}).then(() => 'seen', () => 'done') ?? 'done'",
    ] {
        assert_eq!(eval(&mut studio, code).await, "done", "{code}");
        assert_eq!(eval(&mut studio, "document.title").await, "first", "{code}");
    }
    let error = refused(&mut studio, "present", json!({"url": "http://127.0.0.1:1/"})).await;
    assert!(error.contains("the page cannot be shown: net::ERR_"), "{error}");
}

#[tokio::test]
async fn pages_of_the_network_are_shown_and_one_that_never_comes_costs_one_call() {
    let app = Router::new()
        .route("/", get(async || Html(page("#fff", "served"))))
        .route("/never", get(std::future::pending::<Html<String>>));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let _server = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(axum::serve(listener, app).into_future()));
    let mut studio = unseen().await;
    let here = json!({"url": format!("http://{address}/")});
    call(&mut studio, "present", here.clone()).await.expect("shown");
    assert_eq!(eval(&mut studio, "document.title").await, "served");
    let never = json!({"url": format!("http://{address}/never")});
    let error = studio.invoke("canvas.navigate", never, 6_000).await.expect_err("never");
    assert!(message(&error).contains("the page was not loaded within"), "{error}");
    call(&mut studio, "navigate", here).await.expect("the browser goes on");
    assert_eq!(eval(&mut studio, "document.title").await, "served");
}

#[tokio::test]
async fn hostile_pages_and_scripts_cost_one_call() {
    let mut studio = unseen().await;
    let html = format!(
        "{}<script>alert('boo'); onbeforeunload = () => 'stay'</script>",
        page("#fff", "boxes")
    );
    call(&mut studio, "present", json!({"html": html}))
        .await
        .expect("boxes are closed");
    assert_eq!(eval(&mut studio, "confirm('sure?')").await, "false");
    for (code, word) in [
        ("throw new Error('no way')", "CANVAS_ERROR: Error: no way"),
        ("throw 'x'", "x"),
        ("nothing.at.all", "ReferenceError"),
        ("((", "SyntaxError"),
        ("'x'.repeat(300 * 1024)", "PAYLOAD_TOO_LARGE"),
        ("'\\u0001'.repeat(40_000_000)", "PAYLOAD_TOO_LARGE"),
        ("[...Array(1000).keys()].reduce(inner => [inner], [])", "CANVAS_ERROR"),
        ("window", "CANVAS_ERROR"),
    ] {
        let error = refused(&mut studio, "eval", json!({"javaScript": code})).await;
        assert!(error.contains(word) && error.len() < 3_000, "{code}: {error}");
    }
    for (code, word) in [
        ("for (;;);", "the script did not end within"),
        ("new Promise(() => {})", "the script did not end within"),
    ] {
        let hung = studio.invoke("canvas.eval", json!({"javaScript": code}), 6_000).await;
        let error = hung.expect_err(code);
        assert!(message(&error).contains(word), "{code}: {error}");
        assert_eq!(eval(&mut studio, "document.title").await, "boxes", "after {code}");
    }
    // One that cannot be ended by itself takes the browser with it.
    eval(&mut studio, "setTimeout(() => { for (;;); }, 100)").await;
    let hung = studio.invoke(
        "canvas.eval",
        json!({"javaScript": "new Promise(end => setTimeout(end, 1000))"}),
        6_000,
    );
    let error = hung.await.expect_err("hangs");
    assert!(
        message(&error).contains("did not answer in time") && message(&error).contains("present the page again"),
        "{error}"
    );
    studio.is_tidy().await;
    call(&mut studio, "present", json!({"html": page("#fff", "anew")}))
        .await
        .expect("a new one");
    assert_eq!(eval(&mut studio, "document.title").await, "anew");
}

#[tokio::test]
async fn a_browser_that_is_killed_costs_one_call_and_leaves_nothing() {
    let mut studio = unseen().await;
    let html = json!({"html": page("#fff", "doomed")});
    call(&mut studio, "present", html.clone()).await.expect("shown");
    let browser = studio.browser();
    let slow = json!({"javaScript": "new Promise(end => setTimeout(end, 100_000))"});
    let (error, ()) = tokio::join!(call(&mut studio, "eval", slow), async {
        tokio::task::yield_now().await;
        kill_process(browser, Signal::KILL).expect("it runs");
    });
    let error = error.expect_err("killed");
    assert!(message(&error).contains("the browser has ended"), "{error}");
    assert!(message(&error).contains("signal: 9"), "{error}");
    studio.is_tidy().await;
    call(&mut studio, "present", html.clone()).await.expect("a new one");
    assert_eq!(eval(&mut studio, "document.title").await, "doomed");
    // Killed while nobody asks, nothing is there any more.
    kill_process(studio.browser(), Signal::KILL).expect("it runs");
    until("the browser to be missed", async || {
        let error = call(&mut studio, "eval", json!({"javaScript": "1"})).await.err()?;
        message(&error).starts_with("CANVAS_EMPTY").then_some(())
    })
    .await;
    call(&mut studio, "present", html).await.expect("a new one");
    let browser = studio.browser();
    studio.node.stop().await;
    until("the browser to be gone with the node", async || {
        let parent = crate::camera::parent(browser.as_raw_pid().cast_unsigned());
        (parent.is_none() && studio.left_behind() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_keeps_pages_from_being_shown_is_said() {
    let mesh = Mesh::start().await;
    let node = Node::prepare(&mesh.target(), "shy", &[]);
    let why = async || {
        let doctor = node.doctor().await;
        let rows = doctor["capabilities"].as_array().expect("rows").iter();
        let mut missing = rows.flat_map(|row| row["missing"].as_array().cloned().unwrap_or_default());
        let row = missing.find(|row| row["command"] == "canvas.present").expect("missing");
        row["why"].as_str().expect("text").to_owned()
    };
    node.rules(&json!({"canvas": {"headless": true, "arguments": ["--no-sandbox"]}}));
    let denied = why().await;
    assert!(denied.contains("denied on this device until its owner"), "{denied}");
    for (canvas, word) in [
        (json!({"arguments": ["--no-sandbox"]}), "there is no display"),
        (json!({"headless": true, "browser": "netscape"}), "netscape"),
        (json!({"window": true}), "window"),
    ] {
        node.rules(&json!({"commands": {"canvas": "allow"}, "canvas": canvas}));
        let why = why().await;
        assert!(why.contains(word), "{canvas}: {why}");
    }
    for command in ALL {
        assert!(node.doctor().await.to_string().contains(&format!("canvas.{command}")));
    }
}

impl Studio {
    /// The browser itself, which is the child of the node that has children of its own.
    fn browser(&mut self) -> Pid {
        let node = self.node.program().pid();
        let all = crate::camera::descendants(node);
        let mut direct = all.into_iter().filter(|pid| crate::camera::parent(*pid) == Some(node));
        let pid = direct.next().expect("a browser");
        Pid::from_raw(pid.cast_signed()).expect("a process")
    }
}
