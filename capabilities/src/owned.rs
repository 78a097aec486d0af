//! Files that the owner of this device writes: what they say counts only where nobody else can write them.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// What the owner of this device says of its commands, in the state folder. A section each, read by whom it is for.
pub const OWNERS_FILE: &str = "node.json";

/// More than any owner writes. A larger file is refused.
const FILE_BYTES: u64 = 256 * 1024;

/// The text of a file that nobody else can write; none when there is no file. Waits for the disk.
///
/// # Errors
/// Others can write it, it is too large or no text, or the disk.
pub fn read_trusted(path: &Path) -> io::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = file.metadata()?;
        if metadata.mode() & 0o022 != 0 {
            return Err(io::Error::other("others can write to it; run chmod go-w on it"));
        }
    }
    let mut text = String::new();
    file.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(Some(text))
}

/// What a section of the owner's file in `state_dir` says now; without file or section, the defaults. Waits for the disk.
///
/// # Errors
/// A sentence with the path, when it cannot be used as it is.
pub(crate) fn section<T: DeserializeOwned + Default>(
    state_dir: &Path,
    name: &str,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, String> {
    let path = state_dir.join(OWNERS_FILE);
    let read = match read_trusted(&path) {
        Ok(Some(text)) => parse(&text, name, check),
        Ok(None) => Ok(T::default()),
        Err(error) => Err(error.to_string()),
    };
    read.map_err(|why| format!("{} cannot be used: {why}", path.display()))
}

/// A section of a text, if it has one.
pub(crate) fn parse<T: DeserializeOwned + Default>(
    text: &str,
    name: &str,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, String> {
    let sections: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Some(section) = sections.get(name) else {
        return Ok(T::default());
    };
    let section = serde_json::from_str(section.get()).map_err(|error| format!("in the section {name}: {error}"))?;
    check(&section)?;
    Ok(section)
}
