//! Embeds the browser pages that `gateway/ui` was built into. Without them the program builds all the same, and says how to get them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    link();
    let dist = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("ui/dist");
    println!("cargo::rerun-if-changed=build.rs");
    // A folder that is not there would count as changed each time.
    let watched = if dist.is_dir() { "ui/dist" } else { "ui/package.json" };
    println!("cargo::rerun-if-changed={watched}");
    let mut table = String::from("[\n");
    for path in files(&dist)? {
        let name = path.strip_prefix(&dist).map_err(io::Error::other)?.to_string_lossy();
        writeln!(table, "    ({name:?}, include_bytes!({path:?})),").map_err(io::Error::other)?;
    }
    table.push(']');
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    fs::write(out.join("ui.rs"), table)
}

/// Addresses that the loader fills in are listed in a few KiB in place of megabytes, which each start would read into memory. Linkers
/// that cannot do it say so and go on.
fn link() {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Every file below the folder, in one order everywhere; none where there is no folder.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
