//! An agent's folder, held by a directory handle: no path, link or mount trick inside it reaches a file outside.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};

/// The largest file that is read or edited whole, bytes.
pub const LARGEST: u64 = 10 * 1024 * 1024;

/// Why a file operation was refused or failed; the texts are for the model.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Outside of the workspace, by its words or through a link.
    #[error("{path:?} is outside of the workspace")]
    Outside {
        /// As it was given.
        path: String,
    },
    /// Nothing there.
    #[error("there is no file {path:?} in the workspace")]
    Missing {
        /// As it was given.
        path: String,
    },
    /// A folder, a pipe, a device.
    #[error("{path:?} is not a file")]
    NotAFile {
        /// As it was given.
        path: String,
    },
    /// Larger than [`LARGEST`].
    #[error("{path:?} is larger than 10 MiB ({size} bytes); use exec with head, tail or grep")]
    TooLarge {
        /// As it was given.
        path: String,
        /// Bytes.
        size: u64,
    },
    /// Not UTF-8, or with null bytes.
    #[error("{path:?} is a binary file ({size} bytes)")]
    Binary {
        /// As it was given.
        path: String,
        /// Bytes.
        size: u64,
    },
    /// The disk.
    #[error("{path:?}: {source}")]
    Io {
        /// As it was given.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// The folder.
#[derive(Debug)]
pub struct Workspace {
    dir: Dir,
    path: PathBuf,
}

impl Workspace {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// It can be neither made nor opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        let path = path.canonicalize()?;
        Ok(Self { dir, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A whole text file.
    ///
    /// # Errors
    /// Outside, missing, no file, too large, binary, or the disk.
    pub fn read(&self, path: &str) -> Result<String, FileError> {
        let mut bytes = Vec::new();
        let file = self.open_file(path)?;
        let size = file.metadata().map_err(|error| failed(path, error))?.len();
        if size > LARGEST {
            return Err(FileError::TooLarge {
                path: path.to_owned(),
                size,
            });
        }
        // The size can grow between the two calls, so the read is bounded too.
        file.take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(path, error))?;
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(text),
            Ok(_) | Err(_) => Err(FileError::Binary {
                path: path.to_owned(),
                size,
            }),
        }
    }

    /// At most the first `bytes` of a file, as text; what is not UTF-8 is replaced.
    ///
    /// # Errors
    /// Outside, missing, no file, or the disk.
    pub fn beginning(&self, path: &str, bytes: usize) -> Result<String, FileError> {
        let mut beginning = Vec::new();
        let file = self.open_file(path)?;
        file.take(bytes as u64)
            .read_to_end(&mut beginning)
            .map_err(|error| failed(path, error))?;
        // A character that the bound has cut in two is left out.
        while std::str::from_utf8(&beginning).is_err_and(|error| error.error_len().is_none()) {
            beginning.pop();
        }
        Ok(String::from_utf8_lossy(&beginning).into_owned())
    }

    /// Writes a file whole, making its folders; gives its size before, if it was there.
    ///
    /// # Errors
    /// Outside, no file, or the disk.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<Option<u64>, FileError> {
        let inside = self.inside(path)?;
        if let Some(folder) = inside.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            self.dir.create_dir_all(folder).map_err(|error| failed(path, error))?;
        }
        let before = match self.dir.metadata(&inside) {
            Ok(metadata) if metadata.is_file() => Some(metadata.len()),
            Ok(_) => return Err(FileError::NotAFile { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(path, error)),
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let mut file = self
            .dir
            .open_with(&inside, &options)
            .map_err(|error| failed(path, error))?;
        let written = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(bytes))
            .and_then(|()| file.set_len(bytes.len() as u64));
        written.map_err(|error| failed(path, error))?;
        Ok(before)
    }

    /// Deletes the oldest files of a folder until `count` are left. Best effort.
    pub(super) fn keep_newest(&self, folder: &str, count: usize) {
        let Ok(entries) = self.dir.read_dir(folder) else {
            return;
        };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.file_name())))
            .collect();
        files.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
        for (_, name) in files.into_iter().skip(count) {
            let _ = self.dir.remove_file(Path::new(folder).join(name));
        }
    }

    fn open_file(&self, path: &str) -> Result<cap_std::fs::File, FileError> {
        let inside = self.inside(path)?;
        // Opening a pipe would wait for its other end, so the kind is looked at first.
        let metadata = self.dir.metadata(&inside).map_err(|error| failed(path, error))?;
        if !metadata.is_file() {
            return Err(FileError::NotAFile { path: path.to_owned() });
        }
        self.dir.open(&inside).map_err(|error| failed(path, error))
    }

    /// The path relative to the workspace. Absolute ones are taken when they name a place inside; what links do is the handle's to check.
    fn inside(&self, path: &str) -> Result<PathBuf, FileError> {
        let given = Path::new(path.trim());
        let relative = given.strip_prefix(&self.path).unwrap_or(given);
        let mut inside = PathBuf::new();
        for component in relative.components() {
            match component {
                Component::Normal(part) => inside.push(part),
                Component::CurDir => {}
                Component::ParentDir if inside.pop() => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(FileError::Outside { path: path.to_owned() });
                }
            }
        }
        if inside.as_os_str().is_empty() {
            return Err(FileError::NotAFile { path: path.to_owned() });
        }
        Ok(inside)
    }
}

fn failed(path: &str, source: io::Error) -> FileError {
    let path = path.to_owned();
    let kind = source.kind();
    // cap-std's answer to a link that leads out.
    let led_out = kind == io::ErrorKind::PermissionDenied && source.to_string().contains("outside of the filesystem");
    if kind == io::ErrorKind::NotFound {
        FileError::Missing { path }
    } else if led_out {
        FileError::Outside { path }
    } else {
        FileError::Io { path, source }
    }
}
