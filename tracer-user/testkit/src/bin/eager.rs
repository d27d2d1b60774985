//! SSH server for tests; see [`lastbyte_testkit::eager`].

use clap::Parser;
use lastbyte_testkit::eager::{Options, serve};

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    serve(Options::parse()).await
}
