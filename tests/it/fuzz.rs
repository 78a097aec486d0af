//! The fuzz targets without a fuzzer: the corpus that fuzzing has left, and a few thousand inputs made out of it. `ATOLL_SEED` repeats those.

use std::time::{Duration, Instant};

use atoll_tests::chance::{Chance, seed};
use atoll_tests::fuzz::TARGETS;
use atoll_tests::fuzz::corpus::unpack;
use atoll_tests::tree::root;

/// All corpora together, bytes.
const LARGEST: usize = 500_000;

/// How long each target is given inputs that nobody has looked at.
const TIME: Duration = Duration::from_secs(2);

/// Says which input it was when a promise is broken.
struct Shown<'a>(&'a str, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {:?}", self.0, self.1);
        }
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = root().join(format!("tests/data/fuzz/{target}.corpus"));
    unpack(&std::fs::read(path).expect("a corpus"))
}

#[test]
fn what_fuzzing_has_found_keeps_every_promise() {
    let mut all = 0;
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 20, "{} inputs of {name}", corpus.len());
        for bytes in &corpus {
            let shown = Shown(name, bytes);
            target(bytes);
            drop(shown);
            all += bytes.len();
        }
    }
    assert!(all < LARGEST, "{all} bytes: minimise the corpora");
}

#[test]
fn what_is_made_out_of_it_keeps_every_promise() {
    let seed = seed();
    println!("ATOLL_SEED={seed}");
    let mut made = 0;
    for (stream, (name, target)) in (0..).zip(TARGETS) {
        let corpus = corpus(name);
        let mut chance = Chance::new(seed, stream);
        let began = Instant::now();
        while began.elapsed() < TIME {
            let bytes = mutated(&corpus, &mut chance);
            let shown = Shown(name, &bytes);
            target(&bytes);
            drop(shown);
            made += 1;
        }
    }
    assert!(made > 200, "{made} inputs");
}

/// Two inputs crossed, then changed in a few places.
fn mutated(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let below = |chance: &mut Chance, bound: usize| {
        usize::try_from(chance.draw() % u64::try_from(bound.max(1)).expect("small")).expect("small")
    };
    let pick = |chance: &mut Chance| corpus[below(chance, corpus.len())].clone();
    let mut bytes = pick(chance);
    if chance.draw().is_multiple_of(4) {
        let other = pick(chance);
        bytes.truncate(below(chance, bytes.len() + 1));
        bytes.extend_from_slice(&other[below(chance, other.len())..]);
    }
    for _ in 0..below(chance, 8) {
        let (at, byte) = (below(chance, bytes.len()), chance.draw().to_le_bytes()[0]);
        match chance.draw() % 4 {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            _ if at < bytes.len() => bytes[at] = byte,
            _ => bytes.push(byte),
        }
    }
    bytes
}
