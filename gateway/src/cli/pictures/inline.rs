//! Pictures in a terminal that can show them: kitty's graphics protocol and iTerm2's inline images. Writes nothing anywhere else.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use atoll_capabilities::capture::{Preview, preview};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cli::CliError;

/// No wider than this, pixels: what is sent is not compressed.
const WIDTH: u32 = 800;

/// One piece of kitty's protocol, characters.
const PIECE: usize = 4096;

/// What the terminal understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Screen {
    Kitty,
    Iterm,
    /// Letters, or it is no terminal.
    None,
}

impl Screen {
    /// As its terminal says in the environment.
    pub(in crate::cli) fn of_terminal() -> Self {
        if !io::stdout().is_terminal() {
            return Self::None;
        }
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let says = |name: &str, words: &[&str]| variable(name).is_some_and(|value| words.contains(&value.as_str()));
        // Between us and the terminal, and passes neither on.
        if variable("TMUX").is_some() || variable("STY").is_some() {
            return Self::None;
        }
        if says("TERM", &["xterm-kitty", "xterm-ghostty"]) || variable("KITTY_WINDOW_ID").is_some() {
            return Self::Kitty;
        }
        let is_iterm = says("TERM_PROGRAM", &["iTerm.app", "WezTerm", "mintty", "vscode"])
            || says("LC_TERMINAL", &["iTerm2"])
            || variable("KONSOLE_VERSION").is_some();
        if is_iterm { Self::Iterm } else { Self::None }
    }

    /// Shows the picture in a file, if it can.
    pub(in crate::cli) fn show(self, path: &Path) -> Result<(), CliError> {
        if self == Self::None {
            return Ok(());
        }
        let drawn = self.drawn(&std::fs::read(path)?);
        if let Some(drawn) = drawn {
            let mut out = io::stdout().lock();
            out.write_all(&drawn)?;
            out.write_all(b"\n")?;
            out.flush()?;
        }
        Ok(())
    }

    /// The signs that draw a JPEG or PNG where the cursor is. None where it cannot, or what it was given is no picture.
    pub(super) fn drawn(self, picture: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::None => None,
            Self::Iterm => {
                preview(picture, 1)?;
                let (size, text) = (picture.len(), STANDARD.encode(picture));
                Some(format!("\x1b]1337;File=inline=1;size={size};width=auto:{text}\x07").into_bytes())
            }
            Self::Kitty => Some(kitty(&preview(picture, WIDTH)?)),
        }
    }
}

/// Pixels in pieces, the first with what they are.
fn kitty(picture: &Preview) -> Vec<u8> {
    let text = STANDARD.encode(&picture.rgb);
    let mut signs = Vec::with_capacity(text.len() + text.len() / 100);
    let count = text.len().div_ceil(PIECE);
    for (number, piece) in text.as_bytes().chunks(PIECE).enumerate() {
        let more = u8::from(number + 1 < count);
        let head = if number == 0 {
            format!("\x1b_Ga=T,f=24,q=2,s={},v={},m={more};", picture.width, picture.height)
        } else {
            format!("\x1b_Gm={more};")
        };
        signs.extend_from_slice(head.as_bytes());
        signs.extend_from_slice(piece);
        signs.extend_from_slice(b"\x1b\\");
    }
    signs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_known_by_what_it_says() {
        for (says, expected) in [
            (&[("TERM", "xterm-kitty")][..], Screen::Kitty),
            (&[("TERM_PROGRAM", "WezTerm")], Screen::Iterm),
            (&[("LC_TERMINAL", "iTerm2")], Screen::Iterm),
            (&[("TERM", "xterm-256color")], Screen::None),
            (&[("TERM", "xterm-kitty"), ("TMUX", "x")], Screen::None),
        ] {
            let variable = |name: &str| {
                says.iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Screen::of(variable), expected, "{says:?}");
        }
    }

    #[test]
    fn pixels_go_in_pieces_of_which_only_the_last_says_that_it_is() {
        let picture = Preview {
            width: 64,
            height: 50,
            rgb: vec![9; 64 * 50 * 3],
        };
        let signs = String::from_utf8(kitty(&picture)).expect("text");
        assert!(signs.starts_with("\x1b_Ga=T,f=24,q=2,s=64,v=50,m=1;"));
        assert_eq!(signs.matches("m=1;").count(), 3);
        assert_eq!(signs.matches("m=0;").count(), 1);
        let longest = signs
            .split("\x1b\\")
            .map(|piece| piece.rsplit(';').next().unwrap_or_default().len())
            .max();
        assert_eq!(longest, Some(PIECE));
    }

    #[test]
    fn what_is_no_picture_is_not_sent_to_the_terminal() {
        assert_eq!(Screen::Iterm.drawn(b"\x1b]52;c;x\x07"), None);
        assert_eq!(Screen::Kitty.drawn(b"x"), None);
    }
}
