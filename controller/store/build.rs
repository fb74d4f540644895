//! Has the crate compiled again when a migration is added: the files are embedded by a macro that
//! notices changes of the files it knows, not new ones.

#![allow(clippy::print_stdout)] // how a build script talks to cargo

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
