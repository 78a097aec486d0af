//! How the page looks and feels on a small phone, in both lights. With `ATOLL_SCREENSHOTS=<folder>` its pictures are kept there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use atoll_tests::browser::Browser;
use atoll_tests::mesh::Mesh;

use super::{Phone, link};

/// What is wrong with the page for fingers, eyes and screen readers, as far as a program can tell.
const FAULTS: &str = "(() => {
    const faults = [];
    const seen = [...document.querySelectorAll('body *')].filter(element => element.checkVisibility());
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > width) faults.push(`wider than the screen: ${document.documentElement.scrollWidth}`);
    for (const element of seen) {
        const name = element.id || element.outerHTML.slice(0, 60);
        const box = element.getBoundingClientRect();
        if (box.right > width + 1) faults.push(`${name} reaches out`);
        const control = element.closest('label') ?? element;
        if (element.matches('button, input') && control.getBoundingClientRect().height < 24) faults.push(`${name} is too small`);
        if (element.matches('button') && !element.innerText.trim()) faults.push(`${name} has no name`);
        if (element.matches('input') && element.labels.length === 0) faults.push(`${name} has no label`);
        if (element.matches('img') && !element.hasAttribute('alt')) faults.push(`${name} has no text`);
    }
    const luminance = colour => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255);
        const [r, g, b] = parts.map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (!/^rgba\\(.*, 0\\)$/.test(colour)) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    for (const element of seen) {
        const text = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!text) continue;
        const [a, b] = [luminance(getComputedStyle(element).color), luminance(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) faults.push(`${element.innerText.slice(0, 30)}: contrast ${contrast.toFixed(1)}`);
    }
    return faults;
})()";

async fn shape(browser: &mut Browser, width: u32, light: &str) {
    let size = json!({"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": true});
    browser.call("Emulation.setDeviceMetricsOverride", size).await;
    let media = json!({"features": [{"name": "prefers-color-scheme", "value": light}]});
    browser.call("Emulation.setEmulatedMedia", media).await;
}

async fn check(browser: &mut Browser) {
    for width in [320, 390] {
        for light in ["dark", "light"] {
            shape(browser, width, light).await;
            let faults = browser.eval(FAULTS).await;
            assert_eq!(faults, json!([]), "{light}, {width} wide");
        }
    }
}

/// Only when asked: a run of the tests changes no file of the project.
async fn keep(browser: &mut Browser, light: &str, name: &str) {
    shape(browser, 390, light).await;
    let Some(folder) = std::env::var_os("ATOLL_SCREENSHOTS") else {
        return;
    };
    let picture = STANDARD.decode(browser.picture().await).expect("base64");
    let path = std::path::Path::new(&folder).join(name);
    std::fs::write(&path, picture).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[tokio::test]
async fn the_page_fits_a_small_phone_in_both_lights_and_can_be_read_and_pressed() {
    let mesh = Mesh::start().await;
    let mut browser = Browser::start(None).await;
    browser.open(&link(&mesh, &[]).await).await;
    browser
        .until("the question", "document.querySelector('#pair').checkVisibility()")
        .await;
    check(&mut browser).await;
    keep(&mut browser, "dark", "phone-pair.png").await;
    let mut phone = Phone::accept(mesh, browser).await;
    for (command, choice) in [
        ("camera.list", "allow"),
        ("camera.snap", "allow"),
        ("camera.clip", "allow"),
        ("camera.stream", "ask"),
    ] {
        phone.switch(command, choice).await;
    }
    phone.call("camera.snap", json!({})).await.expect("allowed");
    phone
        .browser
        .until("the banner to go", "document.querySelector('#banner').hidden")
        .await;
    for details in ["#log-card", "#about"] {
        phone
            .browser
            .eval(&format!("document.querySelector('{details}').open = true"))
            .await;
    }
    check(&mut phone.browser).await;
    keep(&mut phone.browser, "dark", "phone-dark.png").await;
    let asked = phone
        .owner
        .ask(
            "node.invoke",
            phone.invoke("camera.clip", json!({"durationMs": 60_000})),
        )
        .await;
    phone
        .browser
        .until("the banner", "document.querySelector('#banner').checkVisibility()")
        .await;
    check(&mut phone.browser).await;
    keep(&mut phone.browser, "light", "phone-light.png").await;
    phone.browser.press("#stop").await;
    phone.owner.answer(&asked).await.expect_err("stopped");
    phone.browser.press("#leave").await;
    phone
        .browser
        .until("the question", "document.querySelector('#leaving').open")
        .await;
    check(&mut phone.browser).await;
    phone.browser.press("#leaving-yes").await;
    phone
        .browser
        .until(
            "the page to know nothing",
            "document.querySelector('#code-row')?.checkVisibility()",
        )
        .await;
}
