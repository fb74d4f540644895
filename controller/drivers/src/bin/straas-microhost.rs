//! The microhost helper as a program of its own, for this crate's tests and for poking at it by
//! hand. The controller calls the same entry behind its hidden subcommand `microhost`, so no
//! package ships this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    straas_drivers::microhost_main(std::env::args_os().skip(1))
}
