//! What the command line shows, as a picture for the documents.

use std::path::Path;

use atoll_tests::browser::Browser;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::nodes_cli::top::{Ring, TABLE};

/// A terminal, as far as a picture of one goes.
const STYLE: &str = "html{background:#10141b}pre{margin:0;padding:18px 22px;color:#d5dbe5;\
    font:15px/1.45 'DejaVu Sans Mono',monospace;width:max-content}b{color:#7fd1b9;font-weight:400}i{color:#8a94a6;font-style:normal}";

fn page(table: &str) -> String {
    let lines = table.lines().enumerate().map(|(number, line)| match number {
        0 => format!("<i>{line}</i>\n"),
        _ => format!("{}\n", line.replace('<', "&lt;")),
    });
    let html = format!(
        "<style>{STYLE}</style><pre><b>$</b> atoll nodes top\n{}</pre>",
        lines.collect::<String>()
    );
    format!("data:text/html;charset=utf-8;base64,{}", STANDARD.encode(html))
}

#[tokio::test]
async fn the_table_of_the_ring_is_what_its_picture_shows() {
    let table = Ring::start().await.table().await;
    assert_eq!(table, TABLE);
    let mut browser = Browser::start(None).await;
    browser.open(&page(&table)).await;
    assert!(browser.text("pre").await.contains(table.trim_end()));
    let sizes = browser
        .eval("[...['offsetWidth', 'offsetHeight'].map(side => document.querySelector('pre')[side])]")
        .await;
    let size = json!({"width": sizes[0], "height": sizes[1], "deviceScaleFactor": 2, "mobile": false});
    browser.call("Emulation.setDeviceMetricsOverride", size).await;
    let margin = browser.eval("document.body.style.margin = 0").await;
    assert_eq!(margin, 0);
    let picture = STANDARD.decode(browser.picture().await).expect("base64");
    assert!(picture.len() > 10_000, "{} bytes", picture.len());
    // Only when asked: a run of the tests changes no file of the project.
    if let Some(folder) = std::env::var_os("ATOLL_SCREENSHOTS") {
        let path = Path::new(&folder).join("nodes-top.png");
        std::fs::write(&path, picture).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
