//! The program `dfml`; see [`datafusion_ml::shell`].

use std::process::ExitCode;

fn main() -> ExitCode {
    datafusion_ml::shell::main()
}
