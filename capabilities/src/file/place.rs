//! From a path in a call to a handle in an open folder. Everything below the folder is opened relative to its handle, so that no
//! link, no `..` and no renamed folder leads out.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use atoll_protocol::json::Json;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata};
use serde_json::json;

use super::roots::{Root, Roots};
use super::{Refusal, ok};

/// A place in an open folder.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: Dir,
    /// Below the folder; empty for the folder itself.
    pub(super) inside: PathBuf,
    /// As it is shown.
    pub(super) shown: PathBuf,
}

/// Finds the open folder that a path leads into.
pub(super) fn find(roots: &Roots, path: &str, to_write: bool) -> Result<Place, Refusal> {
    let asked = check(path)?;
    let all = roots.load().map_err(|why| Refusal::new("PERMISSION_DENIED", why))?;
    let mut best: Option<Place> = None;
    for root in all.iter().filter(|root| root.write || !to_write) {
        let Some(place) = within(root, asked).map_err(|error| refused(&error, path))? else {
            continue;
        };
        let is_closer = |best: &Place| place.inside.components().count() < best.inside.components().count();
        if best.as_ref().is_none_or(is_closer) {
            best = Some(place);
        }
    }
    let what = if to_write { "open for writing" } else { "open" };
    best.ok_or_else(|| {
        let list = roots.path().display();
        Refusal::new(
            "PERMISSION_DENIED",
            format!("{path} is in no folder that this device's owner has {what} ({list} on the device says which)"),
        )
    })
}

fn check(path: &str) -> Result<&Path, Refusal> {
    let invalid = |message: &str| Err(Refusal::new("INVALID_PATH", message));
    if path.is_empty() {
        return invalid("path required");
    }
    if path.contains('\0') {
        return invalid("path contains NUL byte");
    }
    let path = Path::new(path);
    if !path.is_absolute() {
        return invalid("path must be absolute");
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Refusal::new("PATH_TRAVERSAL", "path must not contain .."));
    }
    Ok(path)
}

/// The place, when the path begins with the folder, as its owner wrote it or as the system calls it.
fn within(root: &Root, asked: &Path) -> io::Result<Option<Place>> {
    let canonical = match root.path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let inside = asked
        .strip_prefix(&root.path)
        .or_else(|_| asked.strip_prefix(&canonical));
    let Ok(inside) = inside else { return Ok(None) };
    Ok(Some(Place {
        dir: Dir::open_ambient_dir(&canonical, ambient_authority())?,
        inside: inside.to_owned(),
        shown: canonical.join(inside),
    }))
}

impl Place {
    /// The folder itself is `.` to its handle.
    pub(super) fn relative(&self) -> &Path {
        if self.inside.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &self.inside
        }
    }

    pub(super) fn metadata(&self) -> Result<Metadata, Refusal> {
        self.dir.metadata(self.relative()).map_err(|error| self.refused(&error))
    }

    /// The file for reading, and its size.
    pub(super) fn open_file(&self) -> Result<(File, u64), Refusal> {
        // Opening a pipe would wait for its other end, so the kind is looked at first.
        self.must_be_file(&self.metadata()?)?;
        let file = self.dir.open(self.relative()).map_err(|error| self.refused(&error))?;
        let metadata = file.metadata().map_err(|error| self.refused(&error))?;
        self.must_be_file(&metadata)?;
        Ok((file, metadata.len()))
    }

    fn must_be_file(&self, metadata: &Metadata) -> Result<(), Refusal> {
        if metadata.is_dir() {
            return Err(Refusal::new("IS_DIRECTORY", "path is a directory"));
        }
        if !metadata.is_file() {
            return Err(Refusal::new("READ_ERROR", "path is not a regular file"));
        }
        Ok(())
    }

    pub(super) fn name(&self) -> String {
        let name = self.shown.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    pub(super) fn refused(&self, error: &io::Error) -> Refusal {
        refused(error, &self.shown.to_string_lossy())
    }
}

/// What the system's words mean to a caller.
fn refused(error: &io::Error, path: &str) -> Refusal {
    // cap-std's answer to a link that leads out.
    let led_out =
        error.kind() == io::ErrorKind::PermissionDenied && error.to_string().contains("outside of the filesystem");
    if led_out {
        return Refusal::new(
            "SYMLINK_REDIRECT",
            format!("{path} leads out of the open folder through a link"),
        );
    }
    if error.kind() == io::ErrorKind::NotFound {
        return Refusal::new("NOT_FOUND", format!("there is no {path}"));
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Refusal::new("PERMISSION_DENIED", format!("{path}: {error}"));
    }
    Refusal::new("READ_ERROR", format!("{path}: {error}"))
}

/// `file.stat`.
pub(super) fn stat(roots: &Roots, path: &str) -> Result<Json, Refusal> {
    let place = find(roots, path, false)?;
    let metadata = place.metadata()?;
    let kind = if metadata.is_dir() {
        "directory"
    } else if metadata.is_file() {
        "file"
    } else {
        "other"
    };
    ok(json!({
        "ok": true, "path": place.shown, "type": kind, "size": metadata.len(), "mtimeMs": mtime_ms(&metadata),
    }))
}

/// Unix milliseconds; 0 where the file system keeps no time.
pub(super) fn mtime_ms(metadata: &Metadata) -> u64 {
    let modified = metadata.modified().ok().map(cap_std::time::SystemTime::into_std);
    let since = modified
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
