//! What the fuzzer has found worth keeping, in every `cargo test`: the bodies of its targets on
//! every kept input. `cargo xtask fuzz` goes on from there.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;
#[path = "corpus/seeds.rs"]
mod seeds;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use fuzz::{btf, decode, model};

/// The heap is counted of all threads together.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

fn replay(target: &str, run: fn(&[u8])) {
    let _alone = ONE_AT_A_TIME.lock();
    let folder = corpus(target);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "next to nothing in {}", folder.display());
    for file in files {
        let input = fs::read(&file).unwrap();
        if let Err(panic) = std::panic::catch_unwind(|| run(&input)) {
            eprintln!("that was {}", file.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn stories() {
    replay("model", model::run);
}

#[test]
fn bytes_as_records() {
    replay("decode", decode::run);
}

#[test]
fn bytes_as_btf() {
    replay("btf", btf::run);
}
