//! What the browser itself forbids the page, whatever its owner switched on.

use atoll_tests::browser::Browser;
use atoll_tests::mesh::Mesh;
use serde_json::json;

use super::{Phone, link};

/// The switches, what the browser calls what they need, and the code of its refusal.
const NEEDS: [(&str, &str, &str); 3] = [
    ("camera.snap", "camera", "CAMERA_PERMISSION_REQUIRED"),
    ("audio.record", "microphone", "MIC_PERMISSION_REQUIRED"),
    ("location.get", "geolocation", "LOCATION_PERMISSION_REQUIRED"),
];

#[tokio::test]
async fn what_the_browser_forbids_is_refused_in_words_that_say_where_it_is_allowed() {
    let mesh = Mesh::start().await;
    let origin = mesh.target().http();
    let mut browser = Browser::start_strict().await;
    let place = json!({"latitude": 52.52, "longitude": 13.405, "accuracy": 12});
    browser.call("Emulation.setGeolocationOverride", place).await;
    browser.open(&link(&mesh, &[]).await).await;
    let mut phone = Phone::accept(mesh, browser).await;

    for (command, permission, code) in NEEDS {
        // A switch that the browser does not let stand goes back, and says why.
        phone.browser.permit(&origin, permission, "denied").await;
        phone.switch(command, "allow").await;
        let row = format!("document.querySelector(`fieldset[data-command='{command}']`)");
        let is_back =
            format!("{row}.querySelector('.trouble').textContent && {row}.querySelector('[value=deny]').checked");
        phone.browser.until("the switch to go back", &is_back).await;
        let trouble = phone
            .browser
            .eval(&format!("{row}.querySelector('.trouble').textContent"))
            .await;
        let trouble = trouble.as_str().expect("text");
        assert!(trouble.contains("in the browser's settings"), "{command}: {trouble}");
        assert!(
            phone.refused(command, json!({})).await.ends_with("_DISABLED"),
            "{command}"
        );

        phone.browser.permit(&origin, permission, "granted").await;
        phone.switch(command, "allow").await;
        phone.call(command, json!({"durationMs": 300})).await.expect(command);
        let trouble = phone
            .browser
            .eval(&format!("{row}.querySelector('.trouble').textContent"))
            .await;
        assert_eq!(trouble, "", "{command}");

        phone.browser.permit(&origin, permission, "denied").await;
        let refused = phone.call(command, json!({})).await.expect_err(command);
        let error = &refused["details"]["nodeError"];
        assert_eq!(error["code"], code, "{refused}");
        let words = error["message"].as_str().expect("text");
        assert!(words.contains("for this page in the browser's settings"), "{words}");
    }

    // A clip is better than none, and says what it lacks.
    phone.browser.permit(&origin, "camera", "granted").await;
    phone.switch("camera.clip", "allow").await;
    let clip = phone
        .call("camera.clip", json!({"durationMs": 300}))
        .await
        .expect("a clip");
    let missing = clip["audioMissing"].as_str().expect("a reason");
    assert!(
        missing.contains("does not let the page use the microphone"),
        "{missing}"
    );
    assert_eq!(clip["hasAudio"], false);
}
