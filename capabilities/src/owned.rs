//! Files that the owner of this device writes: what they say counts only where nobody else can write them.

use std::io::{self, Read};
use std::path::Path;

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
