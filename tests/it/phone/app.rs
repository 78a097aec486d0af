//! The page as an app of the phone: what a browser wants before it offers to install one, its start without a network, and what it takes from
//! the battery.

use serde_json::{Value, json};

use super::Phone;

/// Seconds for which nobody uses the phone.
const IDLE: f64 = 6.0;

/// The size of a picture of the page's own, as the browser decodes it.
fn size_of(path: &str) -> String {
    format!(
        "fetch('{path}').then(reply => reply.blob()).then(createImageBitmap).then(({{width, height}}) => `${{width}}x${{height}}`)"
    )
}

#[tokio::test]
async fn a_browser_finds_nothing_that_keeps_it_from_installing_the_page_and_it_starts_without_a_gateway() {
    let mut phone = Phone::pair(None).await;
    let worker = "navigator.serviceWorker.ready.then(({active, scope}) => [new URL(active.scriptURL).pathname, new URL(scope).pathname])";
    assert_eq!(phone.browser.eval(worker).await, json!(["/node/sw.js", "/node"]));
    let found = phone.browser.call("Page.getAppManifest", json!({})).await;
    assert_eq!(found["errors"], json!([]), "{found}");
    let manifest: Value = serde_json::from_str(found["data"].as_str().expect("text")).expect("JSON");
    assert_eq!(
        [&manifest["start_url"], &manifest["scope"], &manifest["display"]],
        ["/node", "/node", "standalone"]
    );
    let icons = manifest["icons"].as_array().expect("icons").iter();
    let sizes: Vec<_> = icons
        .filter(|icon| icon["type"] == "image/png")
        .map(|icon| [&icon["src"], &icon["sizes"]].map(|text| text.as_str().unwrap_or_default().to_owned()))
        .collect();
    for [path, expected] in &sizes {
        assert_eq!(phone.browser.eval(&size_of(path)).await, json!(expected), "{path}");
    }
    assert_eq!(sizes.len(), 2, "{manifest}");
    let faults = phone.browser.call("Page.getInstallabilityErrors", json!({})).await;
    assert_eq!(faults["installabilityErrors"], json!([]), "{faults}");

    let page = format!("{}/node", phone.mesh.target().http());
    phone.mesh.stop().await;
    phone.browser.open(&page).await;
    let lost = "document.querySelector('#state').dataset.state === 'lost'";
    phone
        .browser
        .until("the page to say that there is no gateway", lost)
        .await;
    phone.mesh.run().await;
    let linked = "document.querySelector('#state').dataset.state === 'linked'";
    phone.browser.until("the page to be back", linked).await;
}

/// The page's clock and the processor time of its process, seconds.
async fn spent(phone: &mut Phone) -> (f64, f64) {
    let told = phone.browser.call("Performance.getMetrics", json!({})).await;
    let metrics = told["metrics"].as_array().expect("figures");
    let metric = |name: &str| {
        let found = metrics.iter().find(|metric| metric["name"] == name);
        found.and_then(|metric| metric["value"].as_f64()).expect("a figure")
    };
    (metric("Timestamp"), metric("ProcessTime"))
}

#[tokio::test]
async fn a_phone_that_nobody_uses_leaves_its_processor_alone() {
    let mut phone = Phone::pair(None).await;
    phone.switch("camera.snap", "allow").await;
    phone.call("camera.snap", json!({})).await.expect("a photo");
    let quiet = "document.querySelector('#banner').hidden && !document.querySelector('video.source')";
    phone.browser.until("the camera to be off", quiet).await;
    phone.browser.call("Performance.enable", json!({})).await;
    let (began, before) = spent(&mut phone).await;
    // What it does by itself in that time is what is measured.
    let idle = format!("new Promise(over => setTimeout(over, {}))", IDLE * 1_000.0);
    phone.browser.eval(&idle).await;
    let (ended, after) = spent(&mut phone).await;
    assert!(ended - began >= IDLE, "{began} to {ended}");
    let share = (after - before) / (ended - began);
    assert!(share < 0.05, "{:.1} % of a processor", share * 100.0);
}
