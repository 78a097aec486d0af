//! What the owner says about what is shown: the section `canvas` of `node.json`; and what there is to show it in. Read afresh for every
//! browser that is started.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::installed::Installed;
use crate::owned;

/// Browsers of this kind, the first one that is installed. Their DevTools go through a pipe, which no other program can get at.
const BROWSERS: [&str; 9] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "microsoft-edge-stable",
    "brave-browser",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
];

/// Takes Chromium's walls between pages and the machine away; it starts as root only with that.
const NO_WALLS: &str = "--no-sandbox";

/// The section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Settings {
    /// The browser, by its name or path. None: the first one that is known and installed.
    browser: Option<String>,
    /// Arguments for it, behind ours.
    arguments: Vec<String>,
    /// Without a window: pages can be worked with and pictured, and nobody sees them.
    headless: bool,
}

/// What it is shown in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) headless: bool,
}

/// Waits for the disk.
///
/// # Errors
/// A sentence with the path, when the file cannot be used as it is.
pub(super) fn load(state_dir: &Path) -> Result<Settings, String> {
    owned::section(state_dir, "canvas", |_| Ok(()))
}

impl Settings {
    /// The window that there can be here.
    ///
    /// # Errors
    /// What is missing, and the next step.
    pub(super) fn window(&self, installed: &Installed) -> Result<Window, String> {
        if cfg!(not(unix)) {
            return Err("pages are shown on Linux and macOS only".to_owned());
        }
        let program = match &self.browser {
            Some(name) => installed
                .find(name)
                .ok_or_else(|| format!("the browser {name} that canvas.browser names is not installed"))?,
            None => BROWSERS.iter().find_map(|name| installed.find(name)).ok_or(
                "no browser is installed that can be worked with: install Chromium or Chrome, or name one in canvas.browser; \
                 Firefox is none",
            )?,
        };
        let has_display = cfg!(target_os = "macos")
            || ["DISPLAY", "WAYLAND_DISPLAY"]
                .iter()
                .any(|name| installed.variable(name).is_some());
        if !self.headless && !has_display {
            return Err(
                "there is no display (DISPLAY and WAYLAND_DISPLAY are not set); for pages that nobody sees, write \
                 {\"canvas\": {\"headless\": true}} into node.json"
                    .to_owned(),
            );
        }
        if is_root() && !self.arguments.iter().any(|argument| argument == NO_WALLS) {
            return Err(format!(
                "the node runs as root, and browsers then keep no page away from the machine: run it as another user; if you \
                 want it all the same, write {{\"canvas\": {{\"arguments\": [\"{NO_WALLS}\"]}}}} into node.json"
            ));
        }
        Ok(Window {
            program,
            arguments: self.arguments.clone(),
            headless: self.headless,
        })
    }
}

fn is_root() -> bool {
    #[cfg(unix)]
    return rustix::process::geteuid().is_root();
    #[cfg(not(unix))]
    return false;
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_missing_is_said_with_the_next_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_str().expect("text");
        let check = |settings: &Settings, display: &str| {
            let all = [("PATH", path), ("DISPLAY", display)].map(|(name, value)| (name.to_owned(), value.to_owned()));
            settings.window(&Installed::among(all.into_iter()))
        };
        let plain = Settings {
            arguments: vec![NO_WALLS.to_owned()],
            ..Settings::default()
        };
        assert!(check(&plain, ":1").expect_err("none").contains("install Chromium"));
        let program = folder.path().join("google-chrome");
        std::fs::write(&program, "").expect("room");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("ours");
        assert_eq!(check(&plain, ":1").expect("a window").program, program);
        assert!(
            check(&plain, "")
                .expect_err("nothing to show it on")
                .contains("\"headless\": true")
        );
        let unseen = Settings {
            headless: true,
            ..plain.clone()
        };
        assert!(check(&unseen, "").expect("no window").headless);
        let named = Settings {
            browser: Some("netscape".to_owned()),
            ..plain
        };
        assert!(check(&named, ":1").expect_err("none").contains("netscape"));
        if is_root() {
            let walls = check(&Settings::default(), ":1").expect_err("root");
            assert!(walls.contains(NO_WALLS), "{walls}");
        }
    }
}
