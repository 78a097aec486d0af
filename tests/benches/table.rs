//! The rows that a run measures, how they compare with their budgets and with an earlier run, and the statistics in them.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// A row that was this much better in the baseline is pointed out: less is the machine's own unrest.
const CLEARLY: f64 = 1.3;

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// What a value counts, and which way is better.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    /// Less is better.
    Seconds,
    /// Less is better. The same on every machine, so it is compared as it is.
    Bytes,
    /// More is better.
    PerSecond,
    /// More is better.
    BytesPerSecond,
    /// Less is better. Bytes more than before: partly chance, so only its budget holds it.
    Growth,
    /// Less is better. The same on every machine too.
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes | Self::Growth => "bytes",
            Self::PerSecond => "1/s",
            Self::BytesPerSecond => "bytes/s",
            Self::Count => "",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 1e-3 => format!("{:.0} µs", value * 1e6),
            Self::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
            Self::Seconds => format!("{value:.1} s"),
            Self::Bytes | Self::Growth if value.abs() < MIB => format!("{:.1} KB", value / 1024.0),
            Self::Bytes | Self::Growth => format!("{:.1} MB", value / MIB),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::BytesPerSecond => format!("{:.0} MB/s", value / MIB),
            Self::Count => format!("{value:.0}"),
        }
    }

    /// How many times worse `now` is than `then`.
    fn worse(self, now: f64, then: f64) -> f64 {
        match self {
            Self::Seconds | Self::Bytes | Self::Growth | Self::Count => now / then,
            Self::PerSecond | Self::BytesPerSecond => then / now,
        }
    }

    /// Whether `value` is as good as `limit` at least.
    fn keeps(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Seconds | Self::Bytes | Self::Growth | Self::Count => value <= limit,
            Self::PerSecond | Self::BytesPerSecond => value >= limit,
        }
    }

    /// Whether it needs no bare thing beside it to be compared between machines.
    fn is_absolute(self) -> bool {
        match self {
            Self::Bytes | Self::Count => true,
            Self::Seconds | Self::Growth | Self::PerSecond | Self::BytesPerSecond => false,
        }
    }
}

/// What a row must keep.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    /// None: it is there to be compared with.
    None,
    /// The value itself.
    Value(f64),
    /// The value as a multiple of the bare one.
    Times(f64),
}

/// One thing that was measured.
pub(crate) struct Row {
    /// Names it in the baseline for ever.
    pub(crate) key: String,
    /// In words.
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
    /// The bare thing of the same kind, measured in the same run.
    pub(crate) bare: Option<f64>,
    pub(crate) budget: Budget,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.bare.map(|bare| self.value / bare)
    }

    /// What can be compared between machines.
    fn comparable(&self) -> Option<f64> {
        self.ratio().or(self.unit.is_absolute().then_some(self.value))
    }

    fn is_within(&self) -> Option<bool> {
        match self.budget {
            Budget::None => None,
            Budget::Value(limit) => Some(self.unit.keeps(self.value, limit)),
            Budget::Times(limit) => self.ratio().map(|ratio| self.unit.keeps(ratio, limit)),
        }
    }

    fn cells(&self) -> [String; 5] {
        let budget = match self.budget {
            Budget::None => String::new(),
            Budget::Value(limit) => self.unit.show(limit),
            Budget::Times(limit) => format!("{limit} ×"),
        };
        let verdict = match self.is_within() {
            None => "",
            Some(true) => "kept",
            Some(false) => "over",
        };
        [
            self.what.clone(),
            self.unit.show(self.value),
            self.ratio().map(|ratio| format!("{ratio:.2} ×")).unwrap_or_default(),
            budget,
            verdict.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let budget = match self.budget {
            Budget::None => Value::Null,
            Budget::Value(limit) => json!({"value": limit}),
            Budget::Times(limit) => json!({"ratio": limit}),
        };
        json!({
            "what": self.what, "unit": self.unit.name(), "value": self.value, "bare": self.bare,
            "ratio": self.ratio(), "budget": budget, "kept": self.is_within(),
        })
    }
}

/// Rows in the order they were measured.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn row(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Prints it as Markdown, which a terminal shows as well.
    #[expect(clippy::print_stdout, reason = "the result of the program")]
    pub(crate) fn print(&self) {
        let header = ["what", "value", "× bare", "budget", ""].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(header).chain(self.0.iter().map(Row::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths = [0, 1, 2, 3, 4].map(|column| width(column).unwrap_or_default());
        for (index, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if index == 0 {
                println!("| {} |", widths.map(|width| "-".repeat(width)).join(" | "));
            }
        }
    }

    /// The same for programs; it is what the baseline file holds.
    pub(crate) fn json(&self) -> Value {
        self.0.iter().map(|row| (row.key.clone(), row.json())).collect()
    }

    /// Sentences about rows that are clearly worse than in an earlier run.
    pub(crate) fn regressions(&self, baseline: &Value) -> Vec<String> {
        let worse = self.0.iter().filter_map(|row| {
            let then = &baseline[&row.key];
            let then = then["ratio"].as_f64().or(then["value"].as_f64())?;
            let now = row.comparable()?;
            let times = row.unit.worse(now, then);
            (times > CLEARLY).then(|| format!("{}: {times:.2} times worse than the baseline", row.what))
        });
        worse.collect()
    }
}

/// The committed run that others are compared with.
pub(crate) fn baseline(path: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

/// As a value of a row.
pub(crate) fn bytes(count: u64) -> f64 {
    u32::try_from(count / 1024).map_or(f64::INFINITY, |kib| f64::from(kib) * 1024.0)
}

/// Durations of many equal things.
#[derive(Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The value below which `percent` of them lie, seconds.
    pub(crate) fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).expect("at least one sample").as_secs_f64()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&mut self) -> f64 {
        self.percentile(50)
    }
}
