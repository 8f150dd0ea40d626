//! The corpus of the fuzz targets, held against their laws; searching for more is `make fuzz`.

#[path = "../../fuzz/src/lib.rs"]
mod laws;

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::Path;

use laws::LAWS;

/// Every target has a law, a corpus and a way to run it, and every file of every corpus keeps its law.
#[test]
fn the_corpus_keeps_the_laws() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let laws: BTreeSet<String> = LAWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |folder: &str| -> BTreeSet<String> {
        let files = std::fs::read_dir(fuzz.join(folder)).expect("a folder");
        let stem = |path: &Path| {
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        };
        files
            .filter_map(|file| stem(&file.expect("readable").path()))
            .collect()
    };
    assert_eq!(stems("fuzz_targets"), laws);
    assert_eq!(stems("corpus"), laws);
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("readable");
    for (name, law) in LAWS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let files: Vec<_> = std::fs::read_dir(fuzz.join("corpus").join(name))
            .expect("a folder")
            .map(|file| file.expect("readable").path())
            .collect();
        assert!(files.len() >= 5, "{name} has {} files", files.len());
        for file in files {
            let bytes = std::fs::read(&file).expect("readable");
            assert!(catch_unwind(|| law(&bytes)).is_ok(), "{}", file.display());
        }
    }
}
