//! Where the log goes: standard error and one bounded file that rolls over. Owns the file; never decides what is worth a line, and
//! nothing here makes it safe to log a secret: what looks like a token is masked only as a last resort.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use regex_lite::{Captures, Regex};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{Level, Logging};
use crate::state::{StateDir, make_private_folder};

/// One log file, bytes. More: it becomes `atoll.log.1`, older ones move on, the oldest goes.
const FILE_BYTES: u64 = 8 * 1024 * 1024;

/// Log files that are kept, the present one included.
const FILES: usize = 4;

/// How much is read back for [`Logs::tail`] at most, bytes.
const TAIL_BYTES: u64 = 1024 * 1024;

/// Names the filter that wins over the configuration, in `tracing`'s words, e.g. `info,atoll_gateway::route=debug`.
const FILTER_ENV: &str = "ATOLL_LOG";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be written.
    #[error("cannot write the log {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody has set up logging in this process already.
    #[error("logging is set up already")]
    Twice(#[from] TryInitError),
}

/// The log file, for whoever wants to read it.
#[derive(Debug, Clone)]
pub struct Logs {
    path: PathBuf,
}

impl Logs {
    /// Starts logging for the whole process: to standard error and to the file.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn start(state: &StateDir, logging: &Logging) -> Result<Self, LogError> {
        let path = logging
            .file
            .as_ref()
            .map_or_else(|| state.logs().join("atoll.log"), PathBuf::from);
        let failed = |source| LogError::File {
            path: path.clone(),
            source,
        };
        if let Some(folder) = path.parent() {
            make_private_folder(folder).map_err(failed)?;
        }
        let file = Roll::open(&path, FILE_BYTES).map_err(failed)?;
        let console_level = logging.console_level.unwrap_or(logging.level);
        let console = tracing_subscriber::fmt::layer()
            .with_writer(Masked(io::stderr))
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .with_filter(filter(console_level));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(Masked(file))
            .with_ansi(false)
            .with_filter(filter(logging.level));
        tracing_subscriber::registry().with(console).with(lines).try_init()?;
        Ok(Self { path })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines, oldest first; none when there is no file yet.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn tail(&self, wanted: Wanted) -> io::Result<Tail> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Tail {
                    reset: wanted.after.is_some_and(|after| after > 0),
                    ..Tail::default()
                });
            }
            file => file?,
        };
        let size = file.metadata()?.len();
        let earliest = size.saturating_sub(wanted.bytes.min(TAIL_BYTES));
        // A cursor beyond the end belongs to a file that has rolled over.
        let after = wanted.after.filter(|after| *after <= size);
        let start = after.unwrap_or(earliest).max(earliest);
        // One byte more tells whether a line begins where the reading does.
        let before = start.saturating_sub(1);
        file.seek(SeekFrom::Start(before))?;
        let mut bytes = Vec::new();
        file.take(size - before).read_to_end(&mut bytes)?;
        let (lines, rest) = whole_lines(&bytes, start > 0, wanted.lines);
        Ok(Tail {
            lines,
            cursor: size - u64::try_from(rest).unwrap_or_default(),
            size,
            truncated: start > after.unwrap_or_default(),
            reset: after != wanted.after,
        })
    }
}

/// Which part of the log.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// What comes after the cursor of an earlier answer, instead of the end of the file.
    pub after: Option<u64>,
    /// Not more lines than that, the latest ones.
    pub lines: usize,
    /// Out of not more than that.
    pub bytes: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            after: None,
            lines: usize::MAX,
            bytes: TAIL_BYTES,
        }
    }
}

/// A part of the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Whole lines.
    pub lines: Vec<String>,
    /// Where they end: the place to go on from.
    pub cursor: u64,
    /// The file's size, bytes.
    pub size: u64,
    /// Something between the place asked for and the first line was passed over.
    pub truncated: bool,
    /// The file is another one than at the last time.
    pub reset: bool,
}

/// The latest whole lines, and how many bytes at the end are no whole line yet. With `is_inside` the first byte belongs to what comes
/// before, so that a line which is cut is passed over and one which begins there is not.
fn whole_lines(bytes: &[u8], is_inside: bool, limit: usize) -> (Vec<String>, usize) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(&bytes[..end]);
    let whole: Vec<&str> = text.lines().skip(usize::from(is_inside)).collect();
    let latest = whole[whole.len().saturating_sub(limit)..].iter();
    (latest.map(|line| (*line).to_owned()).collect(), bytes.len() - end)
}

fn filter(level: Level) -> Targets {
    let given = std::env::var(FILTER_ENV).ok();
    if let Some(filter) = given.and_then(|words| words.parse().ok()) {
        return filter;
    }
    let level = match level {
        Level::Silent => LevelFilter::OFF,
        Level::Fatal | Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level)
}

/// The file and its size. Lines come from every thread, so they take turns; a write is one system call.
#[derive(Debug, Clone)]
struct Roll(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl Roll {
    fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Open {
            path: path.to_owned(),
            file,
            size,
            limit,
        }))))
    }
}

impl Open {
    fn roll(&mut self) -> io::Result<()> {
        let name = |number: usize| {
            let mut name = self.path.as_os_str().to_owned();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            PathBuf::from(name)
        };
        for number in (1..FILES).rev() {
            match fs::rename(name(number - 1), name(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Write for &Roll {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.size > 0 && open.size + line.len() as u64 > open.limit {
            open.roll()?;
        }
        let written = open.file.write(line)?;
        open.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Roll {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Masks each line on its way to another writer. The formatter hands over whole lines.
struct Masked<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Masked<M> {
    type Writer = MaskedWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        MaskedWriter(self.0.make_writer())
    }
}

struct MaskedWriter<W>(W);

impl<W: Write> Write for MaskedWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let masked = mask(&String::from_utf8_lossy(line)).into_bytes();
        self.0.write_all(&masked)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Shapes of well-known secrets: bot tokens, provider keys, bearer headers, and what stands behind a telling name.
fn mask(line: &str) -> String {
    thread_local! {
        static SHAPES: [Regex; 2] = [
            r"(?:\b|bot)\d{6,12}:[A-Za-z0-9_-]{30,}|\b(?:sk|pk|xox[abp]|ghp|gho)[-_][A-Za-z0-9_-]{16,}|\bAIza[A-Za-z0-9_-]{30,}",
            r#"(?i)(bearer\s+|(?:token|secret|password|api_?key)["']?\s*[=:]\s*["']?)([^\s"',;&]{8,})"#,
        ]
        .map(|shape| Regex::new(shape).expect("the shapes are constants and a test compiles them"));
    }
    SHAPES.with(|[whole, named]| {
        let line = whole.replace_all(line, "[masked]");
        named
            .replace_all(&line, |found: &Captures<'_>| format!("{}[masked]", &found[1]))
            .into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_masked_and_the_rest_is_not() {
        for canary in [
            "GET https://api.telegram.org/bot123456789:AAHcanarycanarycanarycanarycanary12/getMe",
            "key sk-ant-canarycanarycanary",
            "xoxb_canarycanarycanary1",
            "Authorization: Bearer canary.canary.canary",
            "token=canarycanary",
            r#"{"password": "canarycanary"}"#,
            "api_key: 'canarycanary'",
        ] {
            let masked = mask(canary);
            assert!(!masked.contains("canary") && masked.contains("[masked]"), "{masked}");
        }
        for plain in [
            "2026-01-01T12:00:00Z  INFO run: token counts input=512 output=12",
            "linked node 3f2a9c01ab in 12 ms",
            "the token is too short",
        ] {
            assert_eq!(mask(plain), plain);
        }
    }

    #[test]
    fn a_masked_writer_masks_a_whole_line() {
        let mut bytes = Vec::new();
        MaskedWriter(&mut bytes)
            .write_all(b"token=canarycanary\n")
            .expect("writes");
        assert_eq!(bytes, b"token=[masked]\n");
    }

    #[test]
    fn a_full_file_rolls_over_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("atoll.log");
        let roll = Roll::open(&path, 10).expect("opens");
        for number in 0..9 {
            (&roll)
                .write_all(format!("line {number}\n").as_bytes())
                .expect("writes");
        }
        let read = |end: &str| fs::read_to_string(dir.path().join(format!("atoll.log{end}"))).ok();
        assert_eq!(read("").as_deref(), Some("line 8\n"));
        assert_eq!(read(".3").as_deref(), Some("line 5\n"));
        assert_eq!(read(".4"), None);
    }

    #[test]
    fn a_file_that_is_there_is_continued() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("atoll.log");
        for text in ["one\n", "two\n"] {
            (&Roll::open(&path, 100).expect("opens"))
                .write_all(text.as_bytes())
                .expect("writes");
        }
        let logs = Logs { path };
        let tail = |lines| {
            let wanted = Wanted {
                lines,
                ..Wanted::default()
            };
            logs.tail(wanted).expect("reads").lines
        };
        assert_eq!(tail(10), ["one", "two"]);
        assert_eq!(tail(1), ["two"]);
    }

    #[test]
    fn the_tail_of_no_file_is_empty() {
        let dir = tempfile::tempdir().expect("a folder");
        let logs = Logs {
            path: dir.path().join("none"),
        };
        assert_eq!(logs.tail(Wanted::default()).expect("reads"), Tail::default());
    }

    #[test]
    fn a_reader_that_follows_gets_every_line_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let logs = Logs {
            path: dir.path().join("atoll.log"),
        };
        let read = |after, bytes| {
            let wanted = Wanted {
                after: Some(after),
                bytes,
                ..Wanted::default()
            };
            logs.tail(wanted).expect("reads")
        };
        let tail = |lines: &[&str], cursor, size, truncated, reset| Tail {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            cursor,
            size,
            truncated,
            reset,
        };
        for (text, after, bytes, expected) in [
            ("one\n", 0, 100, tail(&["one"], 4, 4, false, false)),
            ("one\n", 4, 100, tail(&[], 4, 4, false, false)),
            // A line that is still being written waits for its end.
            ("one\ntw", 4, 100, tail(&[], 4, 6, false, false)),
            (
                "one\ntwo\nthree\n",
                4,
                100,
                tail(&["two", "three"], 14, 14, false, false),
            ),
            // Too much to read at once: the latest whole lines, whether or not a line begins just there.
            ("one\ntwo\nthree\n", 4, 6, tail(&["three"], 14, 14, true, false)),
            ("one\ntwo\nthree\n", 4, 7, tail(&["three"], 14, 14, true, false)),
            // The file has rolled over.
            ("four\n", 14, 100, tail(&["four"], 5, 5, false, true)),
        ] {
            fs::write(&logs.path, text).expect("a writable folder");
            assert_eq!(read(after, bytes), expected, "{text:?} after {after}, {bytes} bytes");
        }
    }
}
