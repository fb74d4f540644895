//! The engine: feeds the target that `STRAAS_FUZZ_TARGET` names with what reaches new code in it.
//!
//! libFuzzer has its own `main` and its own arguments; `tests/tests/fuzz.rs` says how it is built and run.
//!
//! Never here: a target.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("STRAAS_FUZZ_TARGET").unwrap_or_default();
    let found = straas_fuzz::TARGETS.iter().find(|target| target.name == name);
    let known = || straas_fuzz::TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    found.unwrap_or_else(|| panic!("STRAAS_FUZZ_TARGET must be one of {}", known())).run
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
