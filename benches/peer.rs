//! The simulated Partner Center in a process of its own: what `benches/run` measures against.
//!
//! It prints where it listens, in one line of JSON, and ends when its standard input does: its parent may die
//! as it likes and leaves nothing behind. It keeps no list of requests; counting them is enough.
#![allow(clippy::print_stdout, reason = "the line it was started for")]

use std::io;
use std::sync::Arc;

use vetwatch::sandbox::{Options, Sandbox};
use vetwatch::time::SystemClock;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() != Some("--serve") {
        println!("This is one half of the benchmark: start it with benches/run.");
        return Ok(());
    }
    let options = Options { log_capacity: 0, ..Options::default() };
    let Options { tenant, client_id, client_secret, .. } = options.clone();
    let sandbox = Sandbox::start(options, Arc::new(SystemClock)).await?;
    let url = sandbox.url();
    println!(
        "{}",
        serde_json::json!({"url": url, "tenant": tenant, "client_id": client_id, "client_secret": client_secret})
    );
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    sandbox.shutdown().await;
    Ok(())
}
