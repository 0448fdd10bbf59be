//! Serves a sparse disk in memory. `memory SOCKET [BYTES]`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use lsvd_nbd::{Export, Limits, Listener, MemoryDevice, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let socket = args.next().ok_or("usage: memory SOCKET [BYTES]")?;
    let size = args.next().map_or(Ok(1 << 30), |size| size.parse())?;
    let export = Export::new("", Arc::new(MemoryDevice::new(size)));
    let server = Server::new([export], Limits::default())?;
    let listener = Listener::unix(&socket).await?;
    tokio::select! {
        () = server.serve(listener) => {}
        stop = tokio::signal::ctrl_c() => stop?,
    }
    server.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
