//! Serves a device that forgets all writes and reads as zeroes: what is left is the protocol's
//! own cost. `null SOCKET [BYTES]`

use std::error::Error;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use lsvd_nbd::{BlockDevice, DeviceResult, Export, Extent, Limits, Listener, Server, Zeroing};

struct Null {
    size: u64,
}

impl BlockDevice for Null {
    fn size(&self) -> u64 {
        self.size
    }

    fn fast_zero(&self) -> bool {
        true
    }

    fn try_read(&self, _: u64, buf: &mut [u8]) -> Option<DeviceResult<()>> {
        buf.fill(0);
        Some(Ok(()))
    }

    fn try_write(&self, _: u64, _: &[u8]) -> Option<DeviceResult<()>> {
        Some(Ok(()))
    }

    fn try_flush(&self) -> Option<DeviceResult<()>> {
        Some(Ok(()))
    }

    async fn read(&self, _: u64, buf: &mut [u8]) -> DeviceResult<()> {
        buf.fill(0);
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> impl Future<Output = DeviceResult<()>> + Send {
        ready(Ok(()))
    }

    fn flush(&self) -> impl Future<Output = DeviceResult<()>> + Send {
        ready(Ok(()))
    }

    fn trim(&self, _: u64, _: u64) -> impl Future<Output = DeviceResult<()>> + Send {
        ready(Ok(()))
    }

    fn write_zeroes(
        &self,
        _: u64,
        _: u64,
        _: Zeroing,
    ) -> impl Future<Output = DeviceResult<()>> + Send {
        ready(Ok(()))
    }

    async fn block_status(&self, _: u64, len: u64, _: usize) -> DeviceResult<Vec<Extent>> {
        Ok(vec![Extent {
            len,
            hole: true,
            zero: true,
        }])
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let socket = args.next().ok_or("usage: null SOCKET [BYTES]")?;
    let size = args.next().map_or(Ok(1 << 30), |size| size.parse())?;
    let export = Export::new("", Arc::new(Null { size }));
    let server = Server::new([export], Limits::default())?;
    let listener = Listener::unix(&socket).await?;
    tokio::select! {
        () = server.serve(listener) => {}
        stop = tokio::signal::ctrl_c() => stop?,
    }
    server.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
