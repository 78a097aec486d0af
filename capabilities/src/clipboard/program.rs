//! What reads and writes clipboards, by system, and what each is told. Pure but for the look at what is installed.

use crate::installed::Installed;

/// Programs that are told nothing but these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    reads: &'static [&'static str],
    writes: &'static [&'static str],
    /// Whether the one that writes has to stay, since it is what answers when somebody pastes. It stays in the foreground, so that its end is
    /// known and it can be ended.
    holds: bool,
}

const TERMUX: Program = Program {
    reads: &["termux-clipboard-get"],
    writes: &["termux-clipboard-set"],
    holds: false,
};
const MACOS: Program = Program {
    reads: &["pbpaste"],
    writes: &["pbcopy"],
    holds: false,
};
const WINDOWS: Program = Program {
    reads: &[
        "powershell.exe",
        "-NoProfile",
        "-NonInteractive",
        "-Command",
        "[Console]::OutputEncoding = [Text.Encoding]::UTF8; [Console]::Write((Get-Clipboard -Raw))",
    ],
    writes: &[
        "powershell.exe",
        "-NoProfile",
        "-NonInteractive",
        "-Command",
        "[Console]::InputEncoding = [Text.Encoding]::UTF8; Set-Clipboard -Value ([Console]::In.ReadToEnd())",
    ],
    holds: false,
};
const WAYLAND: Program = Program {
    reads: &["wl-paste", "--no-newline", "--type", "text"],
    writes: &["wl-copy", "--foreground", "--type", "text/plain;charset=utf-8"],
    holds: true,
};
const XCLIP: Program = Program {
    reads: &["xclip", "-selection", "clipboard", "-out"],
    writes: &["xclip", "-quiet", "-selection", "clipboard", "-in"],
    holds: true,
};
const XSEL: Program = Program {
    reads: &["xsel", "--clipboard", "--output"],
    writes: &["xsel", "--clipboard", "--nodetach", "--input"],
    holds: true,
};

impl Program {
    /// The one that works here.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(super) fn find(installed: &Installed) -> Result<Self, String> {
        let has = |program: Self| {
            [program.reads, program.writes]
                .iter()
                .all(|argv| installed.has(argv[0]))
        };
        let native = [
            (TERMUX, true),
            (MACOS, cfg!(target_os = "macos")),
            (WINDOWS, cfg!(windows)),
        ];
        if let Some((program, _)) = native.into_iter().find(|(program, is_here)| *is_here && has(*program)) {
            return Ok(program);
        }
        let (wayland, x11) = (installed.variable("WAYLAND_DISPLAY"), installed.variable("DISPLAY"));
        if wayland.is_some() && has(WAYLAND) {
            return Ok(WAYLAND);
        }
        if x11.is_some()
            && let Some(program) = [XCLIP, XSEL].into_iter().find(|program| has(*program))
        {
            return Ok(program);
        }
        let what = if cfg!(target_os = "android") {
            "there is no termux-clipboard-get in PATH; install the app Termux:API and `pkg install termux-api`"
        } else if wayland.is_some() {
            "there is no wl-copy and wl-paste in PATH; install them (apt install wl-clipboard)"
        } else if x11.is_some() {
            "there is no xclip in PATH; install it (apt install xclip)"
        } else {
            return Err(
                "there is no desktop here, whose clipboard it could be; start atoll-node in the session of a person (with DISPLAY or \
                 WAYLAND_DISPLAY)"
                    .to_owned(),
            );
        };
        Err(format!("{what}, then start atoll-node again"))
    }

    pub(super) fn reads(self) -> impl Iterator<Item = &'static str> {
        self.reads.iter().copied()
    }

    pub(super) fn writes(self) -> impl Iterator<Item = &'static str> {
        self.writes.iter().copied()
    }

    pub(super) fn holds(self) -> bool {
        self.holds
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::installed::tests::scripts;

    #[test]
    fn each_desktop_has_its_program_and_says_which_one_is_missing() {
        let (x11, wayland) = (("DISPLAY", ":1"), ("WAYLAND_DISPLAY", "wayland-0"));
        for (programs, env, expected) in [
            (&["xclip"][..], &[x11][..], Ok(XCLIP)),
            (&["xclip", "xsel"], &[x11], Ok(XCLIP)),
            (&["xsel"], &[x11], Ok(XSEL)),
            (&["xclip", "wl-copy", "wl-paste"], &[x11, wayland], Ok(WAYLAND)),
            // Clipboards of both are one where XWayland runs.
            (&["xclip"], &[x11, wayland], Ok(XCLIP)),
            (&["termux-clipboard-get", "termux-clipboard-set"], &[], Ok(TERMUX)),
            (&["wl-copy"], &[wayland], Err("wl-clipboard")),
            (&[], &[x11], Err("apt install xclip")),
            (&["xclip"], &[], Err("no desktop")),
        ] {
            let programs: Vec<_> = programs.iter().map(|name| (*name, "")).collect();
            let (_folder, installed) = scripts(&programs, env);
            match (Program::find(&installed), expected) {
                (Ok(found), Ok(meant)) => assert_eq!(found, meant),
                (Err(why), Err(word)) => assert!(why.contains(word), "{why}"),
                other => panic!("{programs:?} {env:?}: {other:?}"),
            }
        }
    }
}
