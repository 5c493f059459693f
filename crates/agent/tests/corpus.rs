//! The inputs that fuzzing found worth keeping, played to the same targets without a fuzzer.
//!
//! Targets and inputs are in `fuzz/`; `cargo xtask fuzz` looks for new ones.
#![allow(clippy::duplicate_mod, reason = "under the fuzzer each target is a program of its own")]
#![allow(unexpected_cfgs, reason = "cargo-fuzz sets cfg(fuzzing)")]
#![allow(clippy::print_stderr, reason = "a failing test names its input")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../../fuzz/targets/cluster_frames.rs"]
mod cluster_frames;
#[path = "../../../fuzz/targets/config.rs"]
mod config;
#[path = "../../../fuzz/targets/dns_names.rs"]
mod dns_names;
#[path = "../../../fuzz/targets/dns_question.rs"]
mod dns_question;
#[path = "../../../fuzz/targets/host_table.rs"]
mod host_table;
#[path = "../../../fuzz/targets/http_bodies.rs"]
mod http_bodies;
#[path = "../../../fuzz/targets/local_frames.rs"]
mod local_frames;
#[path = "../../../fuzz/targets/names.rs"]
mod names;
#[path = "../../../fuzz/targets/packets.rs"]
mod packets;
#[path = "../../../fuzz/targets/provider_json.rs"]
mod provider_json;
#[path = "../../../fuzz/targets/provider_toml.rs"]
mod provider_toml;
#[path = "../../../fuzz/targets/store_rows.rs"]
mod store_rows;

/// Says which input it was, should the target panic.
struct Playing(PathBuf);

impl Drop for Playing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was {}", self.0.display());
        }
    }
}

fn play(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds nothing", folder.display());
    for file in files {
        let playing = Playing(file);
        run(&fs::read(&playing.0).unwrap());
    }
}

macro_rules! targets {
    ($($target:ident),*) => {
        mod inputs {
            $(
                #[test]
                fn $target() {
                    super::play(stringify!($target), super::$target::run);
                }
            )*
        }

        const TARGETS: &[&str] = &[$(stringify!($target)),*];
    };
}

targets![
    cluster_frames,
    config,
    dns_names,
    dns_question,
    host_table,
    http_bodies,
    local_frames,
    names,
    packets,
    provider_json,
    provider_toml,
    store_rows
];

#[test]
fn every_target_is_played() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
