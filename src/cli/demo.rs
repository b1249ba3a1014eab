//! A stub: the seam between the command line and `vetwatch demo`.

use crate::cli::{Context, Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End by itself after this time
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub duration: Option<std::time::Duration>,
}

#[expect(clippy::unused_async)]
pub async fn demo(_context: &Context, _args: Args) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "`vetwatch demo` is not built yet"))
}
