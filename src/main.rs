//! The program `vetwatch`: see [`vetwatch::cli`].

fn main() -> std::process::ExitCode {
    vetwatch::cli::main(std::env::args_os())
}
