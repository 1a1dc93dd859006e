//! Replays the fuzzers' corpus, with any compiler: each file of `fuzz/corpus/TARGET` once with TARGET.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![allow(unused, missing_docs, reason = "the fuzzers use the rest")]

#[path = "targets.rs"]
mod targets;

use std::path::Path;

#[test]
fn nothing_in_the_corpus_of_the_fuzzers_does_harm() {
    for (name, target) in targets::TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}"));
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            eprintln!("{}", path.display());
            target(&std::fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{dir:?} is empty");
        println!("{name}: {count} files");
    }
}
