//! The client's side of the handshake: up to GO.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{ClientError, ClientOptions, ExportInfo};
use crate::device::BlockSizes;
use crate::wire::constants::{
    CONTEXT_BASE_ALLOCATION, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, INFO_BLOCK_SIZE,
    INFO_DESCRIPTION, INFO_EXPORT, MAGIC_GREETING, MAGIC_OPTION, OPT_EXTENDED_HEADERS, OPT_GO,
    OPT_SET_META_CONTEXT, OPT_STRUCTURED_REPLY, REP_ACK, REP_INFO, REP_META_CONTEXT,
};
use crate::wire::{
    InfoRequest, MetaRequest, OptionHeader, OptionReplyHeader, ReplyMode, WireError, take_u16,
    take_u32, take_u64,
};

/// Longest data of an option's reply, in bytes.
const REPLY_LEN_MAX: u32 = 64 << 10;

/// Shakes hands and enters transmission.
pub(super) async fn go<S>(
    stream: &mut S,
    options: &ClientOptions,
) -> Result<ExportInfo, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    greet(stream).await?;
    let mode = agree_on_mode(stream, options.mode).await?;
    let context = if options.block_status && mode > ReplyMode::Simple {
        choose_context(stream, &options.export).await?
    } else {
        None
    };
    let mut data = Vec::new();
    InfoRequest {
        name: options.export.clone(),
        infos: vec![INFO_BLOCK_SIZE, INFO_DESCRIPTION],
    }
    .encode(&mut data)?;
    send_option(stream, OPT_GO, &data).await?;
    let mut info = ExportInfo {
        size: 0,
        flags: 0,
        block_sizes: None,
        mode,
        context,
        description: None,
    };
    loop {
        let (kind, data) = receive_reply(stream, OPT_GO).await?;
        match kind {
            REP_ACK => return Ok(info),
            REP_INFO => take_info(&mut info, &data)?,
            _ => return Err(refused(OPT_GO, kind, &data)),
        }
    }
}

async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), ClientError> {
    if stream.read_u64().await? != MAGIC_GREETING || stream.read_u64().await? != MAGIC_OPTION {
        return Err(ClientError::Protocol("no newstyle greeting"));
    }
    let flags = stream.read_u16().await?;
    if flags & FLAG_FIXED_NEWSTYLE == 0 {
        return Err(ClientError::Protocol("no fixed newstyle"));
    }
    let answer = flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
    stream.write_u32(answer.into()).await?;
    Ok(())
}

async fn agree_on_mode<S>(stream: &mut S, best: ReplyMode) -> Result<ReplyMode, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for (mode, option) in [
        (ReplyMode::Extended, OPT_EXTENDED_HEADERS),
        (ReplyMode::Structured, OPT_STRUCTURED_REPLY),
    ] {
        if best < mode {
            continue;
        }
        send_option(stream, option, &[]).await?;
        if receive_reply(stream, option).await?.0 == REP_ACK {
            return Ok(mode);
        }
    }
    Ok(ReplyMode::Simple)
}

async fn choose_context<S>(stream: &mut S, export: &str) -> Result<Option<u32>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut data = Vec::new();
    MetaRequest {
        name: export.to_owned(),
        queries: vec![CONTEXT_BASE_ALLOCATION.to_owned()],
    }
    .encode(&mut data)?;
    send_option(stream, OPT_SET_META_CONTEXT, &data).await?;
    let mut context = None;
    loop {
        let (kind, data) = receive_reply(stream, OPT_SET_META_CONTEXT).await?;
        match kind {
            REP_ACK => return Ok(context),
            REP_META_CONTEXT => {
                let mut data = data.as_slice();
                let id = take_u32(&mut data).ok_or(WireError::BadLength)?;
                if data == CONTEXT_BASE_ALLOCATION.as_bytes() {
                    context = Some(id);
                }
            }
            // A server without contexts can be used all the same; an unknown export shows in GO.
            _ => return Ok(None),
        }
    }
}

fn take_info(info: &mut ExportInfo, data: &[u8]) -> Result<(), ClientError> {
    let mut data = data;
    match take_u16(&mut data).ok_or(WireError::BadLength)? {
        INFO_EXPORT => {
            info.size = take_u64(&mut data).ok_or(WireError::BadLength)?;
            info.flags = take_u16(&mut data).ok_or(WireError::BadLength)?;
        }
        INFO_BLOCK_SIZE => {
            let mut size = || take_u32(&mut data).ok_or(WireError::BadLength);
            info.block_sizes = Some(BlockSizes {
                minimum: size()?,
                preferred: size()?,
                maximum: size()?,
            });
        }
        INFO_DESCRIPTION => {
            info.description = Some(String::from_utf8_lossy(data).into_owned());
        }
        _ => {}
    }
    Ok(())
}

async fn send_option<S>(stream: &mut S, option: u32, data: &[u8]) -> Result<(), ClientError>
where
    S: AsyncWrite + Unpin,
{
    let length = u32::try_from(data.len()).map_err(|_| WireError::BadLength)?;
    let mut message = Vec::with_capacity(OptionHeader::LEN + data.len());
    OptionHeader { option, length }.encode(&mut message);
    message.extend_from_slice(data);
    stream.write_all(&message).await?;
    stream.flush().await?;
    Ok(())
}

async fn receive_reply<S>(stream: &mut S, option: u32) -> Result<(u32, Vec<u8>), ClientError>
where
    S: AsyncRead + Unpin,
{
    let mut header = [0; OptionReplyHeader::LEN];
    stream.read_exact(&mut header).await?;
    let header = OptionReplyHeader::decode(&header)?;
    if header.option != option {
        return Err(ClientError::Protocol("a reply to another option"));
    }
    if header.length > REPLY_LEN_MAX {
        return Err(ClientError::Protocol(
            "a reply to an option of more than 64 KiB",
        ));
    }
    let mut data = vec![0; header.length as usize];
    stream.read_exact(&mut data).await?;
    Ok((header.kind, data))
}

fn refused(option: u32, kind: u32, data: &[u8]) -> ClientError {
    ClientError::Refused {
        option,
        kind,
        message: String::from_utf8_lossy(data).into_owned(),
    }
}
