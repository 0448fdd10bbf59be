//! Serves a disk with a volatile cache to a machine whose power is cut:
//! `volatile_disk SOCKET IMAGE UNIT SEED`
//!
//! The disk begins as the image and is kept in memory. One client has it at a time. When the connection ends, the power is lost: of what was not flushed, each unit of
//! `UNIT` bytes is kept or not as the seed and the number of the loss have it. What is left is what the
//! next client finds, and what the image becomes, for those who want to look into it. A line on
//! standard output tells of each loss.

use std::error::Error;
use std::fs::File;
use std::future::{Future, ready};
use std::io::{Read, Write};
use std::sync::Arc;

use lsvd_nbd::{
    BlockDevice, BlockSizes, DeviceError, DeviceResult, Errno, Export, Limits, Server, Zeroing,
};
use lsvd_sim::disk::Survivors;
use lsvd_sim::random::Random;
use lsvd_sim::volatile::VolatileDisk;
use tokio::net::UnixListener;

/// Bytes of the image that are read at once.
const PIECE: usize = 1 << 20;

struct Device(Arc<VolatileDisk>);

impl BlockDevice for Device {
    fn size(&self) -> u64 {
        self.0.len()
    }

    fn block_sizes(&self) -> BlockSizes {
        BlockSizes {
            minimum: u32::try_from(self.0.unit()).unwrap_or(4096),
            ..BlockSizes::default()
        }
    }

    // All is done at once, and so in the order of the requests.
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Option<DeviceResult<()>> {
        buf.copy_from_slice(&self.0.read(offset, buf.len()));
        Some(Ok(()))
    }

    fn try_write(&self, offset: u64, data: &[u8]) -> Option<DeviceResult<()>> {
        self.0.write(offset, data);
        Some(Ok(()))
    }

    fn try_flush(&self) -> Option<DeviceResult<()>> {
        self.0.flush();
        Some(Ok(()))
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> DeviceResult<()> {
        buf.copy_from_slice(&self.0.read(offset, buf.len()));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> impl Future<Output = DeviceResult<()>> + Send {
        self.0.write(offset, data);
        ready(Ok(()))
    }

    fn flush(&self) -> impl Future<Output = DeviceResult<()>> + Send {
        self.0.flush();
        ready(Ok(()))
    }

    /// A hint, which a disk may leave alone.
    fn trim(&self, _: u64, _: u64) -> impl Future<Output = DeviceResult<()>> + Send {
        ready(Ok(()))
    }

    fn write_zeroes(
        &self,
        offset: u64,
        len: u64,
        _: Zeroing,
    ) -> impl Future<Output = DeviceResult<()>> + Send {
        let Ok(len) = usize::try_from(len) else {
            let message = "too much to zero at once";
            return ready(Err(DeviceError::new(Errno::Inval, message)));
        };
        // Zeroes are written, and so lost, like any other bytes.
        self.0.write(offset, &vec![0; len]);
        ready(Ok(()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: volatile_disk SOCKET IMAGE UNIT SEED";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, image, unit, seed] = arguments.as_slice() else {
        return Err(usage.into());
    };
    let disk = Arc::new(load(image, unit.parse()?)?);
    let mut seeds = Random::new(seed.parse()?);
    let export = Export::new("", Arc::new(Device(Arc::clone(&disk))));
    let server = Server::new([export], Limits::default())?;
    let listener = UnixListener::bind(socket)?;
    let mut stdout = std::io::stdout();
    loop {
        let (stream, _) = listener.accept().await?;
        // However it ended: a machine without power says no goodbye.
        drop(server.serve_stream(stream).await);
        let seed = seeds.bits();
        // A disk that keeps nothing is the hardest, and real: every fourth.
        let survivors = match seed % 4 {
            0 => Survivors::None,
            _ => Survivors::Random(seed),
        };
        let loss = disk.lose_power(survivors);
        writeln!(
            stdout,
            "power lost: {} of {} unflushed units lost ({survivors:?}): {:?}",
            loss.lost.len(),
            loss.unflushed,
            loss.lost
        )?;
        disk.save(&File::options().write(true).open(image)?)?;
    }
}

/// A disk that begins as the image.
fn load(image: &str, unit: usize) -> Result<VolatileDisk, Box<dyn Error>> {
    let mut file = File::open(image)?;
    let len = file.metadata()?.len();
    if ![512, 4096].contains(&unit) || !len.is_multiple_of(unit as u64) {
        return Err(format!("{len} bytes are no disk with units of {unit}").into());
    }
    let disk = VolatileDisk::new(unit, len);
    let mut offset = 0;
    let mut piece = vec![0; PIECE];
    while offset < len {
        let left = usize::try_from(len - offset).unwrap_or(PIECE);
        let piece = &mut piece[..left.min(PIECE)];
        file.read_exact(piece)?;
        for bytes in piece.chunks(unit) {
            // What was never written takes no memory.
            if bytes.iter().any(|byte| *byte != 0) {
                disk.preset(offset, bytes);
            }
            offset += bytes.len() as u64;
        }
    }
    Ok(disk)
}
