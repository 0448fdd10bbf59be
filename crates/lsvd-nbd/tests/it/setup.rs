//! Servers and connections for the tests.

use std::sync::Arc;
use std::time::Duration;

use lsvd_nbd::client::{Client, ClientOptions};
use lsvd_nbd::wire::constants::{CMD_FLAG_PAYLOAD_LEN, CMD_WRITE};
use lsvd_nbd::wire::{OptionHeader, OptionReplyHeader, ReplyMode, RequestHeader};
use lsvd_nbd::{BlockDevice, Export, Limits, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) const MODES: [ReplyMode; 3] = [
    ReplyMode::Simple,
    ReplyMode::Structured,
    ReplyMode::Extended,
];

/// A server of one device under the default name.
pub(crate) fn server<D: BlockDevice>(device: Arc<D>) -> Server {
    server_with(device, Limits::default())
}

pub(crate) fn server_with<D: BlockDevice>(device: Arc<D>, limits: Limits) -> Server {
    Server::new([Export::new("", device)], limits).expect("the server's settings are right")
}

/// A connection to the server that holds little on its way.
pub(crate) fn dial(server: &Server) -> DuplexStream {
    let (ours, theirs) = duplex(64 << 10);
    let server = server.clone();
    tokio::spawn(async move { server.serve_stream(theirs).await });
    ours
}

pub(crate) async fn connect(server: &Server, mode: ReplyMode) -> Client {
    let options = ClientOptions {
        mode,
        ..ClientOptions::default()
    };
    let client = Client::connect(dial(server), &options).await;
    let client = client.expect("the handshake succeeds");
    assert_eq!(client.info().mode, mode);
    client
}

/// Waits for what must come soon. Where time is real the limit is far above what a busy machine
/// needs; where it stands still while anything moves, nothing that comes at all comes too late.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), what)
        .await
        .expect("it must come soon")
}

/// A client that speaks in bytes.
pub(crate) struct Raw {
    pub(crate) stream: DuplexStream,
    pub(crate) mode: ReplyMode,
}

impl Raw {
    /// Connects, and answers the greeting with these flags.
    pub(crate) async fn greet(server: &Server, flags: u32) -> Self {
        let mut stream = dial(server);
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).await.expect("a greeting");
        assert_eq!(&greeting, b"NBDMAGICIHAVEOPT\x00\x03");
        stream.write_all(&flags.to_be_bytes()).await.expect("sent");
        let mode = ReplyMode::Simple;
        Self { stream, mode }
    }

    /// Connects and enters transmission without structured replies.
    pub(crate) async fn transmission(server: &Server) -> Self {
        let mut raw = Self::greet(server, 3).await;
        let replies = raw.option(7, &go("", &[])).await;
        assert_eq!(replies.last().expect("a reply").0, 1);
        raw
    }

    pub(crate) async fn send_option(&mut self, option: u32, data: &[u8]) {
        let length = u32::try_from(data.len()).expect("a short option");
        let mut message = Vec::new();
        OptionHeader { option, length }.encode(&mut message);
        message.extend_from_slice(data);
        self.stream.write_all(&message).await.expect("sent");
    }

    /// Sends an option and collects its replies up to ACK or an error.
    pub(crate) async fn option(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send_option(option, data).await;
        let mut replies = Vec::new();
        loop {
            let mut header = [0; OptionReplyHeader::LEN];
            soon(self.stream.read_exact(&mut header))
                .await
                .expect("a reply");
            let header = OptionReplyHeader::decode(&header).expect("a reply's header");
            assert_eq!(header.option, option);
            let mut data = vec![0; header.length as usize];
            soon(self.stream.read_exact(&mut data))
                .await
                .expect("its data");
            replies.push((header.kind, data));
            if header.kind == 1 || header.kind >> 31 == 1 {
                return replies;
            }
        }
    }

    /// Sends an option and expects one reply of this kind.
    pub(crate) async fn option_is(&mut self, option: u32, data: &[u8], kind: u32) {
        let replies = self.option(option, data).await;
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0].0, kind, "option {option}: {replies:?}");
    }

    pub(crate) async fn request(&mut self, command: u16, cookie: u64, offset: u64, length: u64) {
        let extended_write = self.mode == ReplyMode::Extended && command == CMD_WRITE;
        let flags = if extended_write {
            CMD_FLAG_PAYLOAD_LEN
        } else {
            0
        };
        self.request_with(flags, command, cookie, (offset, length))
            .await;
    }

    pub(crate) async fn request_with(
        &mut self,
        flags: u16,
        command: u16,
        cookie: u64,
        (offset, length): (u64, u64),
    ) {
        let header = RequestHeader {
            flags,
            command,
            cookie,
            offset,
            length,
        };
        let mut message = Vec::new();
        header
            .encode(self.mode, &mut message)
            .expect("a length that fits");
        soon(self.stream.write_all(&message)).await.expect("sent");
    }

    /// The next simple reply's error and cookie.
    pub(crate) async fn simple_reply(&mut self) -> (u32, u64) {
        assert_eq!(self.stream.read_u32().await.expect("a reply"), 0x6744_6698);
        let error = self.stream.read_u32().await.expect("its error");
        let cookie = self.stream.read_u64().await.expect("its cookie");
        (error, cookie)
    }

    /// Waits for the server to hang up; returns what it sent before.
    pub(crate) async fn hangs_up(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is hanging up as well.
        let _ = soon(self.stream.read_to_end(&mut rest)).await;
        rest
    }
}

/// The data of INFO and GO.
pub(crate) fn go(name: &str, infos: &[u16]) -> Vec<u8> {
    let mut data = Vec::new();
    let request = lsvd_nbd::wire::InfoRequest {
        name: name.to_owned(),
        infos: infos.to_vec(),
    };
    request.encode(&mut data).expect("a short name");
    data
}

/// The data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
pub(crate) fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    let request = lsvd_nbd::wire::MetaRequest {
        name: name.to_owned(),
        queries: queries.iter().map(|&query| query.to_owned()).collect(),
    };
    request.encode(&mut data).expect("short names");
    data
}
