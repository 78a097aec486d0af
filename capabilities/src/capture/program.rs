//! Programs of the owner's in the place of a camera or a screen: one that takes a picture, into a file or to its standard output, and one
//! that goes on writing pictures. Runs in the helper process; the programs die with it.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use serde::{Deserialize, Serialize};

use super::mjpeg::{PICTURE, Splitter};
use super::picture::Frame;
use super::source::{Purpose, Source};
use super::wire::Trouble;

/// The programs, each with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    /// What people call what it shows, e.g. `camera "door"`.
    pub(crate) what: String,
    /// Takes one picture, JPEG or PNG: into the file `{file}`, or without that to standard output. `{width}` is the width that is wanted, pixels.
    pub(crate) snap: Vec<String>,
    /// Writes one JPEG after the other to standard output; none: pictures are taken one by one.
    pub(crate) stream: Vec<String>,
}

/// What is repeated of a program's complaint, bytes.
const COMPLAINT: u64 = 2_000;

pub(crate) fn open(program: &Program, width: u32, purpose: Purpose) -> Result<Box<dyn Source>, Trouble> {
    if purpose == Purpose::Moving && !program.stream.is_empty() {
        return Ok(Box::new(Streaming::start(program, width)?));
    }
    Ok(Box::new(OneByOne {
        what: program.what.clone(),
        argv: program.snap.clone(),
        width,
    }))
}

/// Takes one picture after the other.
struct OneByOne {
    what: String,
    argv: Vec<String>,
    width: u32,
}

impl Source for OneByOne {
    fn frame(&mut self) -> Result<Frame, Trouble> {
        let names_file = self.argv.iter().any(|word| word.contains("{file}"));
        let folder =
            tempfile::tempdir().map_err(|error| failed(&self.what, format!("has no room for its picture: {error}")))?;
        let file = folder.path().join("picture.jpg");
        let (status, stdout, complaint) = run(&self.what, &filled(&self.argv, self.width, &file))?;
        if !status.success() {
            return Err(failed(&self.what, format!("ended with {status}{complaint}")));
        }
        let picture = if names_file {
            read_file(&self.what, &file)?
        } else {
            stdout
        };
        if picture.is_empty() {
            return Err(failed(&self.what, format!("gave no picture{complaint}")));
        }
        Ok(Frame::coded(picture))
    }
}

/// The program's exit, its output and its complaint.
fn run(what: &str, argv: &[String]) -> Result<(ExitStatus, Vec<u8>, String), Trouble> {
    let mut child = start(what, argv)?;
    let complaint = listen(&mut child);
    let mut stdout = Vec::new();
    let read = match child.stdout.take() {
        Some(pipe) => pipe.take(PICTURE as u64 + 1).read_to_end(&mut stdout),
        None => Ok(0),
    };
    if read.is_err() || stdout.len() > PICTURE {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(what, format!("wrote more than {PICTURE} bytes")));
    }
    let status = child
        .wait()
        .map_err(|error| failed(what, format!("was lost: {error}")))?;
    Ok((status, stdout, complaint.join().unwrap_or_default()))
}

fn start(what: &str, argv: &[String]) -> Result<Child, Trouble> {
    let (program, arguments) = argv.split_first().ok_or_else(|| failed(what, "names no program"))?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            failed(
                what,
                format!("does not start: {program}: {error}; is it installed and in PATH?"),
            )
        })
}

/// Reads what a program complains about, the beginning of it.
fn listen(child: &mut Child) -> std::thread::JoinHandle<String> {
    let pipe = child.stderr.take();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return String::new() };
        let mut head = Vec::new();
        let _ = pipe.by_ref().take(COMPLAINT).read_to_end(&mut head);
        // The rest is not kept, and must not stop the program either.
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        let text = String::from_utf8_lossy(&head);
        match text.trim() {
            "" => String::new(),
            text => format!("; it says: {text}"),
        }
    })
}

fn read_file(what: &str, file: &Path) -> Result<Vec<u8>, Trouble> {
    let mut jpeg = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(PICTURE as u64 + 1).read_to_end(&mut jpeg));
    read.map_err(|error| failed(what, format!("left no picture in {{file}}: {error}")))?;
    if jpeg.len() > PICTURE {
        return Err(failed(what, format!("wrote more than {PICTURE} bytes")));
    }
    Ok(jpeg)
}

fn filled(argv: &[String], width: u32, file: &Path) -> Vec<String> {
    let width = width.to_string();
    let file = file.to_string_lossy();
    let fill = |word: &String| word.replace("{width}", &width).replace("{file}", &file);
    argv.iter().map(fill).collect()
}

/// Takes pictures out of what a program goes on writing.
struct Streaming {
    what: String,
    child: Child,
    stdout: ChildStdout,
    splitter: Splitter,
    ready: VecDeque<Vec<u8>>,
    complaint: Option<std::thread::JoinHandle<String>>,
}

impl Streaming {
    fn start(program: &Program, width: u32) -> Result<Self, Trouble> {
        let what = program.what.clone();
        let mut child = start(&what, &filled(&program.stream, width, Path::new("")))?;
        let complaint = Some(listen(&mut child));
        let stdout = child.stdout.take().ok_or_else(|| failed(&what, "has no output"))?;
        Ok(Self {
            what,
            child,
            stdout,
            splitter: Splitter::default(),
            ready: VecDeque::new(),
            complaint,
        })
    }

    fn ended(&mut self) -> Trouble {
        let _ = self.child.kill();
        let status = self.child.wait();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let complaint = self.complaint.take().and_then(|complaint| complaint.join().ok());
        failed(
            &self.what,
            format!("stopped ({status}){}", complaint.unwrap_or_default()),
        )
    }
}

impl Source for Streaming {
    fn frame(&mut self) -> Result<Frame, Trouble> {
        let mut buffer = vec![0; 64 * 1024];
        while self.ready.is_empty() {
            match self.stdout.read(&mut buffer) {
                Ok(count) if count > 0 => self.ready.extend(self.splitter.push(&buffer[..count])),
                Ok(_) | Err(_) => return Err(self.ended()),
            }
        }
        // Whoever is behind wants the newest.
        let newest = self.ready.pop_back().unwrap_or_default();
        self.ready.clear();
        Ok(Frame::Jpeg(newest))
    }

    fn is_live(&self) -> bool {
        true
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(what: &str, how: impl std::fmt::Display) -> Trouble {
    Trouble::unavailable(format!("the program of {what} {how}"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::capture::mjpeg::tests::noted;

    fn shell(snap: &str, stream: &str) -> Program {
        let argv = |script: &str| vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), "{file}".to_owned()];
        let plain = |script: &str| argv(script)[..3].to_vec();
        Program {
            what: "camera \"door\"".to_owned(),
            snap: if snap.contains("$0") { argv(snap) } else { plain(snap) },
            stream: if stream.is_empty() { Vec::new() } else { plain(stream) },
        }
    }

    fn one(program: &Program) -> Result<Frame, Trouble> {
        open(program, 640, Purpose::OnePicture)?.frame()
    }

    #[test]
    fn a_picture_comes_from_a_file_or_from_the_output() {
        assert_eq!(one(&shell("printf abc", "")), Ok(Frame::Jpeg(b"abc".to_vec())));
        assert_eq!(one(&shell("printf def > $0", "")), Ok(Frame::Jpeg(b"def".to_vec())));
    }

    #[test]
    fn each_way_to_fail_is_named() {
        for (script, word) in [
            ("echo no camera >&2; exit 3", "exit status: 3; it says: no camera"),
            ("true", "gave no picture"),
            ("true $0", "left no picture"),
            ("head -c 20000000 /dev/zero", "wrote more than"),
            ("head -c 20000000 /dev/zero > $0", "wrote more than"),
        ] {
            let error = one(&shell(script, "")).expect_err("fails").message;
            assert!(error.contains(word) && error.contains("\"door\""), "{script}: {error}");
        }
        let mut missing = shell("", "");
        missing.snap = vec!["no-such-program".to_owned()];
        assert!(one(&missing).expect_err("fails").message.contains("is it installed"));
    }

    #[test]
    fn a_program_that_goes_on_gives_one_picture_after_the_other_until_it_stops() {
        let folder = tempfile::tempdir().expect("a folder");
        let picture = folder.path().join("p");
        std::fs::write(&picture, noted(1)).expect("room");
        let script = format!("cat {0}; sleep 0.2; cat {0}; echo tired >&2", picture.display());
        let mut source = open(&shell("true", &script), 640, Purpose::Moving).expect("it starts");
        assert_eq!(source.frame(), Ok(Frame::Jpeg(noted(1))));
        assert_eq!(source.frame(), Ok(Frame::Jpeg(noted(1))));
        let error = source.frame().expect_err("it stopped").message;
        assert!(error.contains("stopped (exit status: 0); it says: tired"), "{error}");
    }
}
