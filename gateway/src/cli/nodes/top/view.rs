//! The part of a long table that a terminal has room for, and the keys that move it. Pure.

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// So many rows on, or back.
    Rows(isize),
    /// So many pages on, or back.
    Pages(isize),
    /// To the first row.
    First,
    /// To the last one.
    Last,
    /// Away from here.
    Leave,
}

/// The keys in what a terminal sent at once; what is none is passed over.
pub(super) fn keys(bytes: &[u8]) -> Vec<Key> {
    const KEYS: [(&[u8], Key); 17] = [
        (b"\x1b[A", Key::Rows(-1)),
        (b"\x1bOA", Key::Rows(-1)),
        (b"k", Key::Rows(-1)),
        (b"\x1b[B", Key::Rows(1)),
        (b"\x1bOB", Key::Rows(1)),
        (b"j", Key::Rows(1)),
        (b"\x1b[5~", Key::Pages(-1)),
        (b"b", Key::Pages(-1)),
        (b"\x1b[6~", Key::Pages(1)),
        (b" ", Key::Pages(1)),
        (b"\x1b[H", Key::First),
        (b"\x1b[1~", Key::First),
        (b"g", Key::First),
        (b"\x1b[F", Key::Last),
        (b"\x1b[4~", Key::Last),
        (b"G", Key::Last),
        (b"q", Key::Leave),
    ];
    let (mut found, mut rest) = (Vec::new(), bytes);
    while let Some((_, behind)) = rest.split_first() {
        let known = KEYS.iter().find(|(sequence, _)| rest.starts_with(sequence));
        rest = match known {
            Some((sequence, key)) => {
                found.push(*key);
                &rest[sequence.len()..]
            }
            None => behind,
        };
    }
    found
}

/// How far down the table it has been moved.
#[derive(Debug, Default)]
pub(super) struct View {
    first: usize,
}

impl View {
    /// Moves by a key on a terminal of so many lines.
    pub(super) fn step(&mut self, key: Key, rows: usize, lines: usize) {
        let room = room(rows, lines);
        let page = isize::try_from(room).unwrap_or(isize::MAX);
        self.first = match key {
            Key::Rows(by) => self.first.saturating_add_signed(by),
            Key::Pages(by) => self.first.saturating_add_signed(by.saturating_mul(page)),
            Key::First => 0,
            Key::Last => rows,
            Key::Leave => self.first,
        };
        self.first = self.first.min(rows - room);
    }

    /// The lines of a table, its head first, that fit; where some do not, the last line says which these are.
    pub(super) fn shown(&mut self, mut table: Vec<String>, lines: usize) -> Vec<String> {
        let rows = table.len().saturating_sub(1);
        let room = room(rows, lines);
        self.first = self.first.min(rows - room);
        if room == rows {
            return table;
        }
        let (from, to) = (self.first + 1, self.first + room);
        table.drain(to + 1..);
        table.drain(1..from);
        table.push(format!("{from} to {to} of {rows}; up, down and space move, q leaves"));
        table
    }
}

/// Rows that a terminal has room for, beside the head and, where not all fit, the line that says so.
fn room(rows: usize, lines: usize) -> usize {
    if rows < lines {
        rows
    } else {
        lines.saturating_sub(2).clamp(1, rows.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: usize) -> Vec<String> {
        let rows = (1..=rows).map(|row| row.to_string());
        std::iter::once("head".to_owned()).chain(rows).collect()
    }

    #[test]
    fn what_fits_is_shown_as_it_is() {
        for (rows, lines) in [(0, 24), (1, 2), (23, 24)] {
            assert_eq!(View::default().shown(table(rows), lines), table(rows));
        }
    }

    #[test]
    fn a_longer_table_is_moved_by_keys_and_never_past_its_ends() {
        let mut view = View::default();
        let mut sees = |keys: &[u8], expected: &str| {
            for key in super::keys(keys) {
                view.step(key, 10, 6);
            }
            let shown = view.shown(table(10), 6);
            let (last, rows) = shown[1..].split_last().expect("lines");
            assert!(
                shown.len() <= 6 && shown[0] == "head" && last.contains(" of 10;"),
                "{shown:?}"
            );
            assert_eq!(rows.join(" "), expected, "{keys:?}");
        };
        sees(b"", "1 2 3 4");
        sees(b"\x1b[A", "1 2 3 4");
        sees(b"\x1b[Bj", "3 4 5 6");
        sees(b" ", "7 8 9 10");
        sees(b" \x1b[6~", "7 8 9 10");
        sees(b"?\x1b[5~k", "2 3 4 5");
        sees(b"G", "7 8 9 10");
        sees(b"\x1b[H", "1 2 3 4");
    }

    #[test]
    fn a_table_that_has_become_shorter_is_shown_to_its_end() {
        let mut view = View::default();
        view.step(Key::Last, 30, 6);
        let shown = view.shown(table(7), 6);
        assert_eq!(shown[1..5], ["4", "5", "6", "7"].map(str::to_owned));
        assert_eq!(view.shown(table(2), 6), table(2));
        // A terminal without room shows a row all the same.
        assert_eq!(view.shown(table(9), 0).len(), 3);
        assert_eq!(keys(b"xq"), [Key::Leave]);
    }
}
