//! The `wellspring` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    wellspring::cli::main()
}
