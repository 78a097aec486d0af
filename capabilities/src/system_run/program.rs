//! Finds programs, folders and scripts on this device and hashes their content. Decides nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use atoll_protocol::plan::FileHash;
use sha2::{Digest, Sha256};

use crate::exec_policy::Program;
use crate::exec_policy::launcher::reads_code;

/// How deep wrappers around wrappers are followed when their files are bound. Deeper ones ask with fewer files bound.
const WRAPPER_DEPTH: usize = 4;

/// The file of a program, looked up as the system would: a name with a slash from `cwd`, a bare one through `path`.
///
/// # Errors
/// A sentence: not found, or not a program.
pub(crate) fn resolve(asked: &str, cwd: &Path, path: &str) -> Result<Program, String> {
    let candidate = if asked.contains('/') {
        Some(cwd.join(asked)).filter(|file| is_program(file))
    } else {
        in_path(asked, path)
    };
    let candidate = candidate.ok_or_else(|| format!("{asked}: no such program"))?;
    let text = |path: PathBuf| {
        path.into_os_string()
            .into_string()
            .map_err(|_| format!("{asked}: its path is not UTF-8"))
    };
    let (Some(folder), Some(name)) = (candidate.parent(), candidate.file_name()) else {
        return Err(format!("{asked}: no such program"));
    };
    let unreadable = |error: std::io::Error| format!("{asked}: {error}");
    let found = folder.canonicalize().map_err(unreadable)?.join(name);
    let real = found.canonicalize().map_err(unreadable)?;
    let bare = name.to_string_lossy();
    let by_path = in_path(&bare, path).and_then(|hit| hit.canonicalize().ok());
    Ok(Program {
        asked: asked.to_owned(),
        path_name: (by_path.as_ref() == Some(&real)).then(|| bare.into_owned()),
        found: text(found)?,
        real: text(real)?,
    })
}

/// The first program of that name; folders of `PATH` that are not absolute are skipped, since they depend on where one stands.
pub(crate) fn in_path(name: &str, path: &str) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return None;
    }
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

#[cfg(unix)]
pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
pub(crate) fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// The folder a command runs in: as asked (from the home folder when relative), else the home folder.
///
/// # Errors
/// A sentence: there is no such folder.
pub(crate) fn folder(asked: Option<&str>, home: &Path) -> Result<String, String> {
    let asked = asked.filter(|text| !text.is_empty()).unwrap_or("~");
    let path = match asked.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(&rest[1..]),
        _ => home.join(asked),
    };
    let real = path.canonicalize().map_err(|error| format!("cwd {asked}: {error}"))?;
    if !real.is_dir() {
        return Err(format!("cwd {asked}: not a folder"));
    }
    real.into_os_string()
        .into_string()
        .map_err(|_| format!("cwd {asked}: its path is not UTF-8"))
}

/// The files whose content decides what the command does: the program first, then what a wrapper starts and the script that an
/// interpreter reads. Each with its place in argv.
pub(crate) fn bound_files(program: &Program, args: &[String], cwd: &Path, path: &str) -> Vec<(usize, PathBuf)> {
    let mut files = vec![(0, PathBuf::from(&program.real))];
    let (mut outer, mut offset) = (program.clone(), 0);
    for _ in 0..WRAPPER_DEPTH {
        if !reads_code(&outer) {
            break;
        }
        let rest = args.get(offset..).unwrap_or_default();
        let operand = rest.iter().enumerate().find_map(|(index, arg)| {
            let file = code_file(arg, cwd, path)?;
            Some((offset + index + 1, arg, file))
        });
        let Some((place, arg, file)) = operand else { break };
        files.push((place, file));
        let Ok(inner) = resolve(arg, cwd, path) else { break };
        (outer, offset) = (inner, place);
    }
    files
}

/// An argument that names a program or a script here.
fn code_file(arg: &str, cwd: &Path, path: &str) -> Option<PathBuf> {
    if arg.starts_with('-') || arg.contains('=') {
        return None;
    }
    let local = cwd.join(arg);
    let file = if local.is_file() {
        Some(local)
    } else {
        in_path(arg, path)
    };
    file?.canonicalize().ok()
}

/// The SHA-256 of each file's content, each file once.
///
/// # Errors
/// A sentence that names the file.
pub(crate) fn hash_files(files: &[(usize, PathBuf)]) -> Result<BTreeMap<usize, FileHash>, String> {
    let mut hashes = BTreeMap::new();
    for (place, file) in files {
        let path = file
            .to_str()
            .ok_or_else(|| format!("{}: its path is not UTF-8", file.display()))?;
        let sha256 = hash_file(file).map_err(|error| format!("{path} cannot be read to check it: {error}"))?;
        let path = path.to_owned();
        hashes.insert(*place, FileHash { path, sha256 });
    }
    Ok(hashes)
}

/// The SHA-256 of a file's content.
///
/// # Errors
/// As reading does.
pub(crate) fn hash_file(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            read => digest.update(&buffer[..read]),
        }
    }
}

/// A command as one line for a person: quoted where needed, and with nothing in it that a display would hide or reorder.
pub(crate) fn spell(argv: &[String]) -> String {
    argv.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ")
}

fn quoted(arg: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !arg.is_empty() && arg.chars().all(is_plain) {
        return arg.to_owned();
    }
    let mut text = String::from("\"");
    for c in arg.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            _ if is_hidden(c) => text.extend(c.escape_unicode()),
            _ => text.push(c),
        }
    }
    text.push('"');
    text
}

/// Control characters, and those that hide or reorder text on a display.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
