//! A stub: the seam between the command line and `vetwatch sandbox`.

use crate::cli::{Context, Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Args {}

#[expect(clippy::unused_async)]
pub async fn sandbox(_context: &Context, _args: Args) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "`vetwatch sandbox` is not built yet"))
}
