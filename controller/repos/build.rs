//! Rebuilds this crate when a file of the payload comes, changes or goes.
//!
//! rust-embed only tells cargo about files that existed at the last build; a new script would not
//! be seen. Never generates code.

fn main() {
    for folder in ["../../proxy-scripts", "../../puppet", "../../guestcmds", "defaults"] {
        // cargo scans a directory recursively
        println!("cargo:rerun-if-changed={folder}");
    }
}
