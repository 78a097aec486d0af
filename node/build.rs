//! How the program is linked.

use std::env;

/// Addresses that the loader fills in are listed in a few KiB in place of hundreds, which each start would read into memory. Linkers that cannot
/// do it say so and go on.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
