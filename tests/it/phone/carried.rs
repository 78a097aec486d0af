//! What carries a phone's link: WebTransport on the gateway's UDP port, a WebSocket where UDP is lost; and who is not let in that way.

use atoll_tests::browser::Browser;
use atoll_tests::chance::{Chance, seed};
use atoll_tests::mesh::Mesh;
use atoll_tests::wait::until;
use atoll_tests::weather::{Proxy, Weather};
use serde_json::json;

use super::{Phone, link};

/// Opens a session with the certificates that the gateway publishes, and does this with it.
fn session(gateway: u16, then: &str) -> String {
    format!(
        "(async () => {{
            const known = await (await fetch('/.well-known/atoll')).json();
            const bytes = hash => Uint8Array.from(hash.match(/../g), pair => parseInt(pair, 16));
            const serverCertificateHashes = known.webTransport.sha256.map(hash => ({{algorithm: 'sha-256', value: bytes(hash)}}));
            const transport = new WebTransport('https://127.0.0.1:{gateway}/', {{serverCertificateHashes}});
            transport.closed.catch(() => {{}});
            await transport.ready;
            const {{value: stream}} = await transport.incomingBidirectionalStreams.getReader().read();
            const reader = stream.readable.getReader();
            {then}
        }})().catch(error => `refused: ${{error.name}}`)"
    )
}

const FIRST_WORD: &str = "return new TextDecoder().decode((await reader.read()).value.subarray(4));";

/// A length that no stranger may name; what comes after it.
const GIANT: &str = "await reader.read();
    await stream.writable.getWriter().write(Uint8Array.of(0x01, 0, 0, 0, 0));
    const begun = performance.now();
    try {
        while (!(await reader.read()).done);
    } catch {}
    return performance.now() - begun < 10_000 ? 'ended at once' : 'ended with the time for a handshake';";

async fn pipe_of(mesh: &Mesh) -> String {
    let list = mesh.cli_json(&["devices", "list", "--json"]).await;
    let rows = list["paired"].as_array().expect("rows");
    let phone = rows.iter().find(|row| row["displayName"] == "Phone").expect("a phone");
    phone["pipe"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_phone_takes_web_transport_also_for_what_is_large_and_again_when_the_gateway_is_another() {
    let mut phone = Phone::pair(None).await;
    assert_eq!(pipe_of(&phone.mesh).await, "webtransport");
    phone.switch("device.info", "allow").await;
    phone.switch("canvas.eval", "allow").await;
    phone.switch("canvas.present", "allow").await;
    let page = json!({"html": format!("<p id=p>{}</p>", "ä".repeat(1_000_000))});
    phone.call("canvas.present", page).await.expect("shown");
    let script = json!({"javaScript": "document.querySelector('#p').textContent.repeat(4)"});
    let told = phone.call("canvas.eval", script).await.expect("a text");
    assert_eq!(told["result"].as_str(), Some("ä".repeat(4_000_000).as_str()));

    phone.mesh.kill().await;
    phone.mesh.run().await;
    phone.owner = phone.mesh.operator().await;
    phone.answers().await;
    until("the better pipe", async || {
        (pipe_of(&phone.mesh).await == "webtransport").then_some(())
    })
    .await;
    assert_eq!(phone.browser.complaints().len(), 0, "{:?}", phone.browser.complaints());
}

#[tokio::test]
async fn where_datagrams_are_lost_a_phone_takes_a_web_socket() {
    let mesh = Mesh::start().await;
    let network = Proxy::start(mesh.target().port, Chance::new(seed(), 0)).await;
    network.set(Weather {
        is_udp_blocked: true,
        ..Weather::default()
    });
    let mut browser = Browser::start(None).await;
    let here = link(&mesh, &[]).await;
    let there = here.replacen(
        &format!(":{}/", mesh.target().port),
        &format!(":{}/", network.port()),
        1,
    );
    browser.open(&there).await;
    let mut phone = Phone::accept(mesh, browser).await;
    assert_eq!(pipe_of(&phone.mesh).await, "ws");
    phone.switch("device.info", "allow").await;
    phone.answers().await;

    // The next attempt tries both again.
    network.set(Weather::default());
    network.cut();
    until("the better pipe", async || {
        (pipe_of(&phone.mesh).await == "webtransport").then_some(())
    })
    .await;
    phone.answers().await;
}

#[tokio::test]
async fn a_session_is_for_pages_of_the_gateway_and_a_stranger_in_it_says_little() {
    let mesh = Mesh::start().await;
    let port = mesh.target().port;
    let elsewhere = Proxy::start(port, Chance::new(seed(), 0)).await;
    let mut browser = Browser::start(None).await;
    browser.open(&format!("http://127.0.0.1:{port}/healthz")).await;
    let said = browser.eval(&session(port, FIRST_WORD)).await;
    assert!(
        said.as_str().is_some_and(|said| said.contains("connect.challenge")),
        "{said}"
    );
    assert_eq!(browser.eval(&session(port, GIANT)).await, "ended at once");
    // The same page from another origin.
    browser
        .open(&format!("http://127.0.0.1:{}/healthz", elsewhere.port()))
        .await;
    let said = browser.eval(&session(port, FIRST_WORD)).await;
    assert_eq!(said, "refused: WebTransportError");
}
