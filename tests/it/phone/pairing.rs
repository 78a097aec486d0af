//! Who a phone is: its link, its key, the gateway's word and its owner's.

use atoll_tests::wait::until;
use serde_json::{Value, json};

use super::{Phone, link};

/// What the page keeps under a name, handed to a function of it.
fn kept(name: &str, then: &str) -> String {
    format!(
        "new Promise((resolve, reject) => {{
            const opening = indexedDB.open('atoll-node');
            opening.onerror = reject;
            opening.onsuccess = () => {{
                const reading = opening.result.transaction('kept').objectStore('kept').get('{name}');
                reading.onsuccess = () => {{
                    opening.result.close();
                    resolve(reading.result);
                }};
            }};
        }}).then({then})"
    )
}

/// What a script in the page can get out of its key.
const TRY_KEY: &str = "async ({privateKey}) => ({
    extractable: privateKey.extractable,
    exported: await crypto.subtle.exportKey('pkcs8', privateKey).then(() => true, () => false),
})";

async fn row(phone: &mut Phone) -> Value {
    let ask = json!({"nodeId": phone.node});
    phone.owner.call("node.describe", ask).await.expect("a row")
}

fn names(row: &Value) -> Vec<&str> {
    row["commands"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[tokio::test]
async fn a_link_makes_a_phone_a_node_that_does_nothing_before_its_owner_says_so() {
    let mut phone = Phone::pair(None).await;
    let row = row(&mut phone).await;
    for command in [
        "camera.snap",
        "camera.clip",
        "location.get",
        "canvas.eval",
        "device.vibrate",
    ] {
        assert!(
            names(&row).contains(&command),
            "{command} can be used once the owner allows it: {row}"
        );
    }
    let address = phone.browser.eval("location.href + history.length").await;
    assert!(
        !address.as_str().expect("text").contains('#'),
        "the code is not left there: {address}"
    );
    assert_eq!(phone.browser.text("#state").await, "Connected, ready");
    for (command, code) in [
        ("camera.snap", "CAMERA_DISABLED"),
        ("camera.list", "CAMERA_DISABLED"),
        ("location.get", "LOCATION_DISABLED"),
        ("system.notify", "NOTIFICATIONS_DISABLED"),
        ("device.status", "DEVICE_DISABLED"),
        ("canvas.present", "CANVAS_DISABLED"),
    ] {
        assert_eq!(phone.refused(command, json!({})).await, code);
    }
    phone.switch("device.status", "allow").await;
    let status = phone.call("device.status", json!({})).await.expect("switched on");
    let level = status["battery"]["level"].as_f64();
    assert!(level.is_some_and(|level| (0.0..=1.0).contains(&level)), "{status}");
    phone.browser.press("#pause").await;
    assert_eq!(phone.refused("device.status", json!({})).await, "NODE_PAUSED");
    assert_eq!(phone.browser.text("#state").await, "Paused");
    assert_eq!(phone.browser.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn a_phone_says_where_it_is_and_asks_its_owner_first_where_it_should() {
    let mut phone = Phone::pair(None).await;
    let origin = phone.mesh.target().http();
    let grant = json!({"origin": origin, "permissions": ["geolocation"]});
    phone.browser.call_browser("Browser.grantPermissions", grant).await;
    let place = json!({"latitude": 52.52, "longitude": 13.405, "accuracy": 12});
    phone.browser.call("Emulation.setGeolocationOverride", place).await;
    phone.switch("location.get", "allow").await;
    let found = phone
        .call("location.get", json!({"desiredAccuracy": "precise"}))
        .await
        .expect("allowed");
    assert_eq!(
        (&found["lat"], &found["lon"], &found["accuracyMeters"]),
        (&json!(52.52), &json!(13.405), &json!(12))
    );
    assert_eq!(
        (&found["isPrecise"], &found["source"]),
        (&json!(true), &json!("unknown"))
    );
    assert!(
        found["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')),
        "{found}"
    );
    phone.switch("location.get", "ask").await;
    for (answer, expected) in [("#ask-no", Err("CONSENT_DENIED")), ("#ask-yes", Ok(52.52))] {
        let asked = phone
            .owner
            .ask("node.invoke", phone.invoke("location.get", json!({})))
            .await;
        phone.browser.press(answer).await;
        let ended = phone.owner.answer(&asked).await;
        let told = match &ended {
            Ok(reply) => Ok(reply["payload"]["lat"].as_f64().expect("a place")),
            Err(error) => Err(error["details"]["nodeError"]["code"].as_str().expect("a code")),
        };
        assert_eq!(told, expected, "{answer}");
    }
}

#[tokio::test]
async fn a_phone_is_the_same_after_its_browser_and_its_gateway_were_started_again_and_out_when_it_is_removed() {
    let mut phone = Phone::pair(None).await;
    let key = phone.browser.eval(&kept("identity", TRY_KEY)).await;
    assert_eq!(key, json!({"extractable": false, "exported": false}));
    phone.switch("device.info", "allow").await;
    phone.answers().await;
    // What a browser has not written down yet when it ends is not there again.
    let consent = kept("consent", "consent => consent?.['device.info'] ?? 'deny'");
    until("the choice to be stored", async || {
        (phone.browser.eval(&consent).await == "allow").then_some(())
    })
    .await;

    phone.browser.stop().await;
    phone.browser.run().await;
    let page = format!("{}/node", phone.mesh.target().http());
    phone.browser.open(&page).await;
    phone.answers().await;
    assert_eq!(phone.mesh.connected("Phone").await, phone.node);

    phone.mesh.stop().await;
    phone
        .browser
        .until(
            "the page to see it",
            "document.querySelector('#state').dataset.state === 'lost'",
        )
        .await;
    phone.mesh.run().await;
    phone.owner = phone.mesh.operator().await;
    phone.answers().await;

    let revoked = phone.mesh.cli(&["devices", "revoke", "Phone"]).await;
    assert!(revoked.status.success(), "{revoked:?}");
    let removed = "document.querySelector('#state').dataset.state === 'removed'";
    phone.browser.until("the page to say that it is out", removed).await;
    let told = phone.browser.text("#notice").await;
    assert!(
        told.contains("no longer knows this phone") && told.contains("atoll qr --phone"),
        "{told}"
    );
    phone.browser.open(&page).await;
    phone.browser.until("it to be refused again", removed).await;
    let rows = phone.owner.call("node.list", json!({})).await.expect("a list");
    assert_eq!(rows["nodes"], json!([]));

    // The next step that it names leads back in, and the owner's switches are as they were.
    let again = link(&phone.mesh, &[]).await;
    phone.browser.open(&again).await;
    phone.browser.press("#pair-form button").await;
    until("the phone to be back", async || {
        let rows = phone.owner.call("node.list", json!({})).await.ok()?;
        (rows["nodes"][0]["connected"] == true).then_some(())
    })
    .await;
    phone.answers().await;
}

#[tokio::test]
async fn a_code_works_once_and_gives_what_it_names() {
    let mut phone = Phone::pair(None).await;
    let narrow = link(&phone.mesh, &["--commands", "device.info", "--name", "Narrow"]).await;
    // As a phone in the local network does, over the gateway's own TLS.
    let narrow = narrow.replacen("http://", "https://", 1);
    let mut other = atoll_tests::browser::Browser::start(None).await;
    other.open(&narrow).await;
    other.press("#pair-form button").await;
    // What the page could do beyond is a question to the owner of the gateway, and not to be used before.
    let row = until("the phone to be linked", async || {
        let rows = phone.owner.call("node.list", json!({})).await.ok()?;
        let named = rows["nodes"]
            .as_array()?
            .iter()
            .find(|row| row["displayName"] == "Narrow");
        named.filter(|row| row["connected"] == true).cloned()
    })
    .await;
    assert_eq!(names(&row), ["device.info"], "{row}");
    assert_eq!(row["approvalState"], "pending-reapproval", "{row}");
    let mut third = atoll_tests::browser::Browser::start(None).await;
    third.open(&narrow).await;
    third.press("#pair-form button").await;
    third
        .until(
            "the page to say that it is spent",
            "document.querySelector('#state').dataset.state === 'code'",
        )
        .await;
    let told = third.text("#notice").await;
    assert!(told.contains("once and for ten minutes"), "{told}");
}

#[tokio::test]
async fn a_page_that_was_frozen_or_ten_minutes_in_the_background_comes_back_by_itself() {
    let mut phone = Phone::pair(None).await;
    phone.switch("device.info", "allow").await;
    let other = json!({"url": "about:blank"});
    phone.browser.call_browser("Target.createTarget", other).await;
    phone
        .browser
        .until("the page to be in the background", "document.hidden")
        .await;
    phone.answers().await;

    // What systems do to a page in the background: nothing of it runs, and meanwhile its gateway is another.
    phone
        .browser
        .call("Page.setWebLifecycleState", json!({"state": "frozen"}))
        .await;
    phone.mesh.kill().await;
    phone.mesh.run().await;
    phone.owner = phone.mesh.operator().await;
    phone
        .browser
        .call("Page.setWebLifecycleState", json!({"state": "active"}))
        .await;
    phone.answers().await;

    // Ten minutes of the page's own clock, in which its gateway says nothing; then some more, as it needs them.
    let pass = |ms: u32| json!({"policy": "advance", "budget": ms});
    let begun = phone.browser.eval("performance.now()").await;
    phone
        .browser
        .call("Emulation.setVirtualTimePolicy", pass(600_000))
        .await;
    let passed = format!("performance.now() - {begun} > 599_000");
    phone.browser.until("ten minutes to pass", &passed).await;
    come_back(&mut phone).await;

    // A gateway that hangs closes nothing: the page has to notice by itself.
    phone.mesh.gateway().suspend();
    let lost = "document.querySelector('#state').dataset.state !== 'linked'";
    // Again and again: the gateway's last word may come when most of the time has passed.
    until("the page to notice", async || {
        let some = pass(60_000);
        phone.browser.call("Emulation.setVirtualTimePolicy", some).await;
        (phone.browser.eval(lost).await == true).then_some(())
    })
    .await;
    phone.mesh.gateway().wake();
    come_back(&mut phone).await;
}

/// Lets the page's clock run until the phone answers.
async fn come_back(phone: &mut Phone) {
    let node = phone.node.clone();
    let (browser, owner) = (&mut phone.browser, &mut phone.owner);
    until("the phone to answer", async || {
        let some = json!({"policy": "advance", "budget": 5_000});
        browser.call("Emulation.setVirtualTimePolicy", some).await;
        let key = uuid::Uuid::new_v4().to_string();
        let call = json!({"nodeId": node, "command": "device.info", "timeoutMs": 2_000, "idempotencyKey": key});
        owner.call("node.invoke", call).await.ok()
    })
    .await;
}
