//! A stub: the seam between the command line and `vetwatch check`.

use crate::cli::{Context, Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also speak to Partner Center and to the mail servers
    #[arg(long)]
    pub live: bool,
}

#[expect(clippy::unused_async)]
pub async fn check(_context: &Context, _args: Args) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "`vetwatch check` is not built yet"))
}
