//! The table that a run prints, and the statistics in it.

use std::time::Duration;

/// Rows in the order they were measured.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// Adds a row: what, how much, compared with what, and the budget.
    pub(crate) fn row(&mut self, what: &str, value: String, ratio: &str, budget: &str) {
        self.rows
            .push([what.to_owned(), value, ratio.to_owned(), budget.to_owned()]);
    }

    /// Prints it as Markdown, which a terminal shows as well.
    #[expect(clippy::print_stdout, reason = "the result of the program")]
    pub(crate) fn print(&self) {
        let header = ["what", "value", "ratio", "budget"].map(str::to_owned);
        let width = |column: usize| {
            let cells = std::iter::once(&header)
                .chain(&self.rows)
                .map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths = [0, 1, 2, 3].map(width);
        let line = |row: &[String; 4]| {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            format!("| {} |", cells.join(" | "))
        };
        println!("{}", line(&header));
        println!("| {} |", widths.map(|width| "-".repeat(width)).join(" | "));
        for row in &self.rows {
            println!("{}", line(row));
        }
    }
}

/// Durations of many equal things.
#[derive(Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The value below which `percent` of them lie.
    pub(crate) fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().expect("at least one sample")
    }

    pub(crate) fn median(&mut self) -> Duration {
        self.percentile(50)
    }
}

/// `1.23 ms` or `45 µs`.
pub(crate) fn time(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1_000.0 {
        format!("{micros:.0} µs")
    } else {
        format!("{:.1} ms", micros / 1e3)
    }
}

/// `12.3 MB`.
pub(crate) fn megabytes(bytes: u64) -> String {
    let bytes = u32::try_from(bytes / 1024).map_or(f64::INFINITY, |kib| f64::from(kib) / 1024.0);
    format!("{bytes:.1} MB")
}

/// `1.4 ×`.
pub(crate) fn times(value: Duration, bare: Duration) -> String {
    format!("{:.2} ×", value.as_secs_f64() / bare.as_secs_f64())
}
