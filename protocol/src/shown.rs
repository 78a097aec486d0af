//! Text of somebody else's as it may be shown to a person.

/// One line of it, at most so many characters and a mark where more was: what steers a terminal, hides letters or turns their order is
/// shown as `·`.
pub fn one_line(text: &str, most: usize) -> String {
    let plain = |letter: char| {
        let is_odd = letter.is_control() || is_unseen(letter);
        if is_odd { '·' } else { letter }
    };
    let mut letters = text.chars();
    let shown: String = letters.by_ref().map(plain).take(most).collect();
    if letters.next().is_some() { shown + "…" } else { shown }
}

fn is_unseen(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_line_that_hides_nothing() {
        for (text, expected) in [
            ("no display", "no display"),
            ("a\r\n\x1b[2Jb", "a···[2Jb"),
            ("a \u{202e}yned\u{200b}", "a ·yned·"),
            ("exactly ten", "exactly te…"),
            ("ten äöü 😀!", "ten äöü 😀!"),
        ] {
            assert_eq!(one_line(text, 10), expected, "{text:?}");
        }
    }
}
