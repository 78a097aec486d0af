//! Takes the committed corpora apart for the fuzzer, and puts together what it leaves. Run in `tests/fuzz`, with `unpack` or `pack`.

#[path = "../src/fuzz/corpus.rs"]
mod framing;

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let what = std::env::args().nth(1).unwrap_or_default();
    for target in ["frame", "dialect", "handshake", "calls"] {
        let file = format!("../data/fuzz/{target}.corpus");
        let folder = Path::new("corpus").join(target);
        match what.as_str() {
            "unpack" => {
                fs::create_dir_all(&folder)?;
                for (number, input) in framing::unpack(&fs::read(file)?).iter().enumerate() {
                    fs::write(folder.join(format!("kept-{number:04}")), input)?;
                }
            }
            "pack" => {
                let inputs = fs::read_dir(folder)?.map(|entry| fs::read(entry?.path()));
                fs::write(file, framing::pack(inputs.collect::<io::Result<_>>()?))?;
            }
            _ => return Err(io::Error::other("say unpack or pack")),
        }
    }
    Ok(())
}
