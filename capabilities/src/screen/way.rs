//! How screens are seen here: X11 from within, everything else through a program. Knows each system's own, and what to do where there is none.

use atoll_protocol::error::CallError;

use super::settings::{Program, Settings};
use crate::capture::params::invalid;
use crate::capture::wire::Source;
use crate::system_run::program::in_path;

/// How.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// The display that the environment names.
    X11,
    /// One for each screen.
    Programs(Vec<Program>),
}

impl Way {
    /// A screen; whether X11 has it shows when it is looked at.
    pub(super) fn source(&self, index: u32) -> Result<Source, CallError> {
        let programs = match self {
            Self::X11 => return Ok(Source::Screen(index)),
            Self::Programs(programs) => programs,
        };
        let found = programs.get(index as usize);
        let program = found.ok_or_else(|| invalid(no_such(index, programs.len())))?;
        Ok(Source::Program(program.program(index as usize)))
    }
}

/// What is said of a screen that is not there.
pub(super) fn no_such(index: u32, count: usize) -> String {
    match count {
        1 => format!("there is no screen {index} here; there is one, number 0"),
        count => format!("there is no screen {index} here; there are {count}, from 0 on"),
    }
}

/// What the system says of itself.
struct System<'a> {
    name: &'a str,
    has_x11: bool,
    variable: &'a dyn Fn(&str) -> Option<String>,
    has: &'a dyn Fn(&str) -> bool,
}

/// How it is done on this device now.
///
/// # Errors
/// Why it cannot be done, and what to do.
pub(super) fn here(settings: &Settings) -> Result<Way, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let path = std::env::var("PATH").unwrap_or_default();
    let system = System {
        name: std::env::consts::OS,
        has_x11: cfg!(all(unix, feature = "screen")),
        variable: &variable,
        has: &|program| in_path(program, &path).is_some(),
    };
    find(settings, &system)
}

fn find(settings: &Settings, system: &System<'_>) -> Result<Way, String> {
    if !settings.commands.is_empty() {
        return Ok(Way::Programs(settings.commands.clone()));
    }
    if settings.display.is_some() {
        return x11(system);
    }
    let instead = "name a program in screen.commands of node.json";
    match system.name {
        "macos" => Ok(Way::Programs(vec![told("main display", "screencapture -x -C -t jpg {file}")])),
        "windows" | "android" | "ios" => Err(format!("screens of {} cannot be seen from here; {instead}", system.name)),
        _ if (system.variable)("WAYLAND_DISPLAY").is_some() => {
            if (system.has)("grim") {
                return Ok(Way::Programs(vec![told("all outputs", "grim -c -")]));
            }
            Err(format!(
                "this is a Wayland session, and there is no grim in PATH; install it (apt install grim; it works with sway, Hyprland and \
                 others of their kind), or {instead}, and start atoll-node again"
            ))
        }
        _ if (system.variable)("DISPLAY").is_some() => x11(system),
        _ => Err(
            "there is no display: neither DISPLAY nor WAYLAND_DISPLAY is set where atoll-node runs; start it in the desktop session, or \
             name an X display in node.json: {\"screen\": {\"display\": \":0\", \"xauthority\": \"…\"}}"
                .to_owned(),
        ),
    }
}

fn x11(system: &System<'_>) -> Result<Way, String> {
    if system.has_x11 {
        return Ok(Way::X11);
    }
    Err("this atoll-node was built without X11; build it with --features screen, or name a program in screen.commands of node.json".to_owned())
}

/// A program of the system's.
fn told(name: &str, words: &str) -> Program {
    Program {
        name: name.to_owned(),
        snap: words.split(' ').map(str::to_owned).collect(),
        stream: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(section: &str, name: &str, variables: &[&str], has_grim: bool) -> Result<Way, String> {
        let settings: Settings = serde_json::from_str(section).expect("fine");
        let variable = |name: &str| variables.contains(&name).then(|| ":0".to_owned());
        let system = System {
            name,
            has_x11: true,
            variable: &variable,
            has: &|_| has_grim,
        };
        find(&settings, &system)
    }

    fn program(way: Result<Way, String>) -> String {
        match way {
            Ok(Way::Programs(programs)) => programs[0].snap[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_owners_word_comes_first_then_the_session() {
        let both = ["DISPLAY", "WAYLAND_DISPLAY"];
        assert_eq!(found("{}", "linux", &["DISPLAY"], true), Ok(Way::X11));
        assert_eq!(program(found("{}", "linux", &both, true)), "grim");
        assert_eq!(found(r#"{"display": ":1"}"#, "linux", &both, true), Ok(Way::X11));
        let own = r#"{"display": ":1", "commands": [{"snap": ["shoot"]}]}"#;
        assert_eq!(program(found(own, "linux", &both, true)), "shoot");
        assert_eq!(program(found("{}", "macos", &[], false)), "screencapture");
    }

    #[test]
    fn where_nothing_works_the_reason_says_what_to_do() {
        for (name, variables, words) in [
            ("linux", &[][..], ["DISPLAY", "\"display\": \":0\""]),
            ("freebsd", &[], ["DISPLAY", "node.json"]),
            ("linux", &["WAYLAND_DISPLAY"], ["apt install grim", "screen.commands"]),
            ("windows", &[], ["windows", "screen.commands"]),
        ] {
            let why = found("{}", name, variables, false).expect_err("nothing works");
            assert!(words.iter().all(|word| why.contains(word)), "{name}: {why}");
        }
    }

    #[test]
    fn a_screen_that_is_not_there_is_said_not_to_be() {
        let way = found(r#"{"commands": [{"snap": ["a"]}]}"#, "linux", &[], false).expect("a program");
        assert!(matches!(way.source(0), Ok(Source::Program(program)) if program.what == "screen 0"));
        let error = way.source(1).expect_err("one alone");
        assert!(error.message.contains("no screen 1"), "{}", error.message);
        assert_eq!(Way::X11.source(1).expect("perhaps"), Source::Screen(1));
    }
}
