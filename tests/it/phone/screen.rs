//! What a phone shows: what an agent presents, messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Phone;

#[tokio::test]
async fn what_is_presented_can_be_worked_with_and_reaches_neither_the_page_nor_the_network() {
    let mut phone = Phone::pair(None).await;
    for command in ["present", "navigate", "eval", "snapshot", "hide"] {
        phone.switch(&format!("canvas.{command}"), "allow").await;
    }
    assert_eq!(
        phone.refused("canvas.eval", json!({"javaScript": "1"})).await,
        "CANVAS_EMPTY"
    );
    let html = "<body style='margin:0;background:rgb(0,160,80)'><h1 id='x'>planted</h1>\
        <script>window.ran = 41</script></body>";
    let url = format!("data:text/html;base64,{}", STANDARD.encode(html));
    phone
        .call("canvas.present", json!({"url": url}))
        .await
        .expect("presented");
    let eval = async |phone: &mut Phone, code: &str| {
        let reply = phone
            .call("canvas.eval", json!({"javaScript": code}))
            .await
            .expect(code);
        reply["result"].as_str().expect("text").to_owned()
    };
    assert_eq!(
        eval(&mut phone, "document.querySelector('#x').textContent").await,
        "planted"
    );
    assert_eq!(eval(&mut phone, "window.ran + 1").await, "42", "its scripts ran");
    assert_eq!(eval(&mut phone, "Promise.resolve({a: [1]})").await, "{\"a\":[1]}");
    for (code, expected) in [
        ("origin", "null"),
        (
            "try { parent.document.title } catch (error) { error.name }",
            "SecurityError",
        ),
        (
            "try { indexedDB.open('atoll-node'); 'open' } catch (error) { error.name }",
            "SecurityError",
        ),
        (
            "fetch('/healthz').then(() => 'reached', () => 'out of reach')",
            "out of reach",
        ),
        (
            "new Promise(end => { const i = new Image(); i.onload = () => end('reached'); i.onerror = () => end('out of reach'); \
          i.src = '/node/icon.svg' })",
            "out of reach",
        ),
        (
            "navigator.mediaDevices?.getUserMedia({video: true}).then(() => 'seen', error => error.name) ?? 'none'",
            "SecurityError",
        ),
    ] {
        assert_eq!(eval(&mut phone, code).await, expected, "{code}");
    }
    assert_eq!(
        phone
            .refused("canvas.eval", json!({"javaScript": "throw new Error('x')"}))
            .await,
        "CANVAS_ERROR"
    );
    assert_eq!(corner(&mut phone).await, "0,160,80,255");
    phone.call("canvas.hide", json!(null)).await.expect("hidden");
    assert_eq!(
        phone.browser.eval("document.querySelector('iframe') === null").await,
        true
    );
    for url in ["javascript:alert(1)", "https://example.org/", "/media/x"] {
        assert_eq!(
            phone.refused("canvas.present", json!({"url": url})).await,
            "CANVAS_FOREIGN",
            "{url}"
        );
    }
}

/// The colour of the last corner of a picture of what is presented.
async fn corner(phone: &mut Phone) -> String {
    let shot = phone
        .call("canvas.snapshot", json!({"format": "png"}))
        .await
        .expect("a picture");
    let png = STANDARD
        .decode(shot["base64"].as_str().expect("base64"))
        .expect("base64");
    assert!(png.starts_with(b"\x89PNG"), "{shot}");
    let pixel = format!(
        "(async () => {{ const i = new Image(); i.src = 'data:image/png;base64,{}'; await i.decode(); const c = \
         new OffscreenCanvas(i.width, i.height).getContext('2d'); c.drawImage(i, 0, 0); \
         return [...c.getImageData(i.width - 5, i.height - 5, 1, 1).data].join() }})()",
        shot["base64"].as_str().expect("base64")
    );
    let colour = phone.browser.eval(&pixel).await;
    colour.as_str().expect("text").to_owned()
}

#[tokio::test]
async fn a_message_is_shown_as_the_system_shows_it_or_in_the_page() {
    let mut phone = Phone::pair(None).await;
    phone.switch("device.vibrate", "allow").await;
    assert_eq!(
        phone
            .call("device.vibrate", json!({"pattern": [50, 20, 50]}))
            .await
            .expect("allowed"),
        json!({"ok": true})
    );
    assert_eq!(
        phone.refused("device.vibrate", json!({"pattern": [1e9]})).await,
        "INVALID_REQUEST"
    );
    let origin = phone.mesh.target().http();
    let grant = json!({"origin": origin, "permissions": ["notifications"]});
    phone.browser.call_browser("Browser.grantPermissions", grant).await;
    phone.switch("system.notify", "allow").await;
    phone
        .browser
        .until("the worker", "navigator.serviceWorker.getRegistration('/node').then")
        .await;
    phone.browser.eval("navigator.serviceWorker.ready.then(() => 1)").await;
    let sent = json!({"title": "Tea", "body": "<b>is ready</b>", "priority": "active", "delivery": "auto"});
    let delivered = phone.call("system.notify", sent.clone()).await.expect("allowed");
    assert_eq!(delivered["delivered"], "system", "{delivered}");
    let shown = phone
        .browser
        .eval("navigator.serviceWorker.getRegistration('/node').then(r => r.getNotifications()).then(n => n.map(x => x.title + x.body))")
        .await;
    assert_eq!(shown, json!(["Tea<b>is ready</b>"]));
    let overlay = json!({"title": "Tea", "body": "<b>is cold</b>", "delivery": "overlay"});
    let delivered = phone.call("system.notify", overlay).await.expect("allowed");
    assert_eq!(delivered["delivered"], "overlay");
    assert_eq!(
        phone.browser.text("#line-body").await,
        "<b>is cold</b>",
        "text, never markup"
    );
}
