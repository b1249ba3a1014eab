//! The program `vetwatch`: see [`vetwatch::cli`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    vetwatch::cli::main(std::env::args_os())
}
