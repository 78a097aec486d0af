//! What browsers have on a real phone alone: a camera in front and one behind, a light, a screen that stays on. The stand-ins are as strict as
//! Chromium on Android is.

use atoll_capabilities::capture::preview;
use atoll_tests::browser::Browser;
use atoll_tests::mesh::Mesh;
use serde_json::{Value, json};

use super::camera::bytes;
use super::{Phone, link};
use crate::screen::{is_like, pixel};

/// Two cameras, each of one colour, and a light that turns what the one behind sees yellow, a moment after it was switched on.
const CAMERAS: &str = "(() => {
    const cameras = [
        { deviceId: 'b', label: 'camera2 0, facing back', facing: 'environment', colour: 'rgb(0, 0, 200)', abilities: { torch: true } },
        { deviceId: 'f', label: 'camera2 1, facing front', facing: 'user', colour: 'rgb(200, 0, 0)', abilities: {} },
    ];
    const meant = ({ deviceId, facingMode }) =>
        deviceId ? cameras.find(camera => camera.deviceId === deviceId.exact)
            : cameras.find(camera => camera.facing === facingMode?.ideal) ?? cameras[0];
    navigator.mediaDevices.enumerateDevices = async () =>
        cameras.map(({ deviceId, label }) => ({ kind: 'videoinput', deviceId, label, groupId: '' }));
    navigator.mediaDevices.getUserMedia = async ({ video }) => {
        const camera = meant(video);
        if (!camera) throw new DOMException('deviceId', 'OverconstrainedError');
        const canvas = document.createElement('canvas');
        const context = canvas.getContext('2d');
        let colour = camera.colour;
        const draw = () => {
            context.fillStyle = colour;
            context.fillRect(0, 0, canvas.width, canvas.height);
        };
        draw();
        const drawing = setInterval(draw, 30);
        const stream = canvas.captureStream(30);
        const track = stream.getVideoTracks()[0];
        const stop = track.stop.bind(track);
        track.stop = () => {
            clearInterval(drawing);
            stop();
        };
        track.getCapabilities = () => camera.abilities;
        track.applyConstraints = async ({ advanced: [{ torch }] }) => {
            setTimeout(() => { colour = torch ? 'rgb(200, 200, 0)' : camera.colour; }, 200);
        };
        return stream;
    };
})()";

/// Takes note of each time that the screen is kept on.
const SCREEN: &str = "(() => {
    window.locks = [];
    const request = navigator.wakeLock.request.bind(navigator.wakeLock);
    navigator.wakeLock.request = async kind => {
        const lock = await request(kind);
        window.locks.push(lock);
        return lock;
    };
})()";

/// A phone whose browser ran this before the page.
async fn with(stand_in: &str) -> Phone {
    let mesh = Mesh::start().await;
    let mut browser = Browser::start(None).await;
    browser.run_first(stand_in).await;
    browser.open(&link(&mesh, &[]).await).await;
    Phone::accept(mesh, browser).await
}

/// The colour of a photo.
async fn photo(phone: &mut Phone, params: &Value) -> u32 {
    let reply = phone.call("camera.snap", params.clone()).await.expect("a photo");
    let picture = preview(&bytes(&reply), u32::MAX).expect("a picture");
    pixel(&picture, picture.width / 2, picture.height / 2)
}

#[tokio::test]
async fn the_camera_that_is_meant_takes_the_photo_with_the_light_or_without() {
    let mut phone = with(CAMERAS).await;
    for command in ["camera.list", "camera.snap", "camera.clip"] {
        phone.switch(command, "allow").await;
    }
    let list = phone.call("camera.list", json!({})).await.expect("a list");
    let devices = list["devices"].as_array().expect("a list").iter();
    let positions: Vec<_> = devices.map(|device| [&device["id"], &device["position"]]).collect();
    assert_eq!(json!(positions), json!([["b", "back"], ["f", "front"]]));

    let (back, front, lit) = (0x00_00_C8, 0xC8_00_00, 0xC8_C8_00);
    for (params, expected) in [
        (json!({}), back),
        (json!({"facing": "front"}), front),
        (json!({"facing": "back", "torch": true}), lit),
        (json!({"facing": "back", "torch": false}), back),
        (json!({"deviceId": "f"}), front),
        (json!({"facing": "front", "torch": false}), front),
        (json!({"deviceId": "b"}), back),
    ] {
        let seen = photo(&mut phone, &params).await;
        assert!(is_like(seen, expected), "{params}: {seen:06x}");
    }
    let dark = json!({"facing": "front", "torch": true});
    assert_eq!(phone.refused("camera.snap", dark).await, "TORCH_UNAVAILABLE");

    // Phones give one camera at a time; whoever wants the one that is on joins.
    let clip = phone.invoke(
        "camera.clip",
        json!({"facing": "back", "durationMs": 30_000, "includeAudio": false}),
    );
    let clip = phone.owner.ask("node.invoke", clip).await;
    phone
        .browser
        .until(
            "the camera to be on",
            "document.querySelector('video.source')?.videoWidth > 0",
        )
        .await;
    let other = json!({"facing": "front"});
    assert_eq!(phone.refused("camera.snap", other).await, "CAMERA_BUSY");
    assert!(is_like(photo(&mut phone, &json!({"facing": "back"})).await, back));
    phone.browser.press("#stop").await;
    phone.owner.answer(&clip).await.expect_err("stopped");
}

#[tokio::test]
async fn a_phone_keeps_its_screen_on_as_long_as_its_owner_wants_and_the_page_is_seen() {
    let mut phone = with(SCREEN).await;
    assert_eq!(phone.browser.eval("locks.length").await, 0);
    phone.browser.press("#awake").await;
    let is_on = |count: u32| format!("locks.length === {count} && !locks.at(-1).released");
    phone.browser.until("the screen to be kept on", &is_on(1)).await;

    // Systems let it go out behind other pages.
    let other = json!({"url": "about:blank"});
    let other = phone.browser.call_browser("Target.createTarget", other).await;
    let is_off = "document.hidden && locks.at(-1).released";
    phone.browser.until("the page to be in the background", is_off).await;
    phone
        .browser
        .call_browser("Target.closeTarget", json!({"targetId": other["targetId"]}))
        .await;
    phone.browser.call("Page.bringToFront", json!({})).await;
    phone.browser.until("the screen to be kept on again", &is_on(2)).await;

    // Whoever opens the page another day wants the same.
    let page = format!("{}/node", phone.mesh.target().http());
    phone.browser.open(&page).await;
    phone.browser.until("the screen to be kept on still", &is_on(1)).await;
    phone.browser.press("#awake").await;
    phone
        .browser
        .until("the screen to go out", "locks.length === 1 && locks[0].released")
        .await;
}
