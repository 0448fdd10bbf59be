//! The handshake: fixed newstyle, up to the moment when requests may come.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::export::Export;
use crate::limits::{OPTION_DRAIN_LEN_MAX, OPTION_LEN_MAX, OPTIONS_MAX};
use crate::session::SessionError;
use crate::wire::constants::{
    CONTEXT_BASE_ALLOCATION, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, INFO_BLOCK_SIZE,
    INFO_DESCRIPTION, INFO_EXPORT, INFO_NAME, MAGIC_GREETING, MAGIC_OPTION, OPT_ABORT,
    OPT_EXPORT_NAME, OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT,
    OPT_SET_META_CONTEXT, OPT_STARTTLS, OPT_STRUCTURED_REPLY, REP_ACK, REP_ERR_EXT_HEADER_REQD,
    REP_ERR_INVALID, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN, REP_ERR_UNSUP, REP_INFO, REP_META_CONTEXT,
    REP_SERVER,
};
use crate::wire::{
    InfoRequest, MetaRequest, OptionHeader, OptionReplyHeader, ReplyMode, string_of,
};

/// The id under which `base:allocation` is reported; the only context there is.
pub(crate) const CONTEXT_ID: u32 = 1;

/// What a handshake has agreed on.
pub(crate) struct Agreed {
    pub(crate) export: Arc<Export>,
    pub(crate) mode: ReplyMode,
    /// Whether block status may be asked for.
    pub(crate) block_status: bool,
}

/// The server's side of one handshake.
pub(crate) struct Handshake<'a, S> {
    stream: &'a mut S,
    exports: &'a [Arc<Export>],
    no_zeroes: bool,
    mode: ReplyMode,
    /// The export for which `base:allocation` was chosen last.
    context_of: Option<String>,
    /// Replies that are not sent yet.
    out: Vec<u8>,
}

/// What an option leads to.
enum Next {
    Option,
    Transmission(Agreed),
    End,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Handshake<'a, S> {
    pub(crate) fn new(stream: &'a mut S, exports: &'a [Arc<Export>]) -> Self {
        Self {
            stream,
            exports,
            no_zeroes: false,
            mode: ReplyMode::Simple,
            context_of: None,
            out: Vec::new(),
        }
    }

    /// Runs the handshake; `None` when the client ended it in order.
    pub(crate) async fn run(mut self) -> Result<Option<Agreed>, SessionError> {
        self.greet().await?;
        for _ in 0..OPTIONS_MAX {
            let mut header = [0; OptionHeader::LEN];
            if !self.read_or_end(&mut header).await? {
                return Ok(None);
            }
            let header = OptionHeader::decode(&header)?;
            let Some(data) = self.option_data(header).await? else {
                self.reply_error(
                    header.option,
                    REP_ERR_TOO_BIG,
                    "an option holds 64 KiB at most",
                );
                self.send().await?;
                continue;
            };
            let next = self.answer(header.option, &data)?;
            self.send().await?;
            match next {
                Next::Option => {}
                Next::Transmission(agreed) => return Ok(Some(agreed)),
                Next::End => return Ok(None),
            }
        }
        Err(SessionError::Handshake("more than 1024 options"))
    }

    async fn greet(&mut self) -> Result<(), SessionError> {
        self.out.extend_from_slice(&MAGIC_GREETING.to_be_bytes());
        self.out.extend_from_slice(&MAGIC_OPTION.to_be_bytes());
        let flags = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
        self.out.extend_from_slice(&flags.to_be_bytes());
        self.send().await?;
        let mut flags = [0; 4];
        self.stream.read_exact(&mut flags).await?;
        let flags = u32::from_be_bytes(flags);
        if flags & !u32::from(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES) != 0 {
            return Err(SessionError::Handshake("unknown client flags"));
        }
        self.no_zeroes = flags & u32::from(FLAG_NO_ZEROES) != 0;
        Ok(())
    }

    /// Fills the buffer; `false` when the client hung up instead of beginning a new option.
    async fn read_or_end(&mut self, buf: &mut [u8]) -> Result<bool, SessionError> {
        let (first, rest) = buf.split_at_mut(1);
        if self.stream.read(first).await? == 0 {
            return Ok(false);
        }
        self.stream.read_exact(rest).await?;
        Ok(true)
    }

    /// The data of an option; `None` if it is longer than any that makes sense.
    async fn option_data(&mut self, header: OptionHeader) -> Result<Option<Vec<u8>>, SessionError> {
        let fits = usize::try_from(header.length).is_ok_and(|len| len <= OPTION_LEN_MAX);
        if !fits && header.length > OPTION_DRAIN_LEN_MAX {
            return Err(SessionError::Handshake("an option longer than 1 MiB"));
        }
        // Grows with what arrives, not with what was announced.
        let mut data = Vec::new();
        let mut left = header.length as usize;
        let mut piece = [0; 4096];
        while left > 0 {
            let want = left.min(piece.len());
            let got = self.stream.read(&mut piece[..want]).await?;
            if got == 0 {
                return Err(SessionError::Handshake(
                    "the client hung up inside an option",
                ));
            }
            left -= got;
            if fits {
                data.extend_from_slice(&piece[..got]);
            }
        }
        Ok(fits.then_some(data))
    }

    async fn send(&mut self) -> Result<(), SessionError> {
        self.stream.write_all(&self.out).await?;
        self.stream.flush().await?;
        self.out.clear();
        Ok(())
    }

    fn answer(&mut self, option: u32, data: &[u8]) -> Result<Next, SessionError> {
        if option == OPT_EXPORT_NAME {
            return self.export_name(data).map(Next::Transmission);
        }
        if option == OPT_ABORT {
            self.reply(option, REP_ACK, &[]);
            return Ok(Next::End);
        }
        match option {
            OPT_LIST => self.list(data),
            OPT_INFO | OPT_GO => return Ok(self.info(option, data)),
            OPT_STRUCTURED_REPLY => self.structured_reply(data),
            OPT_EXTENDED_HEADERS => self.extended_headers(data),
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => self.meta_context(option, data),
            OPT_STARTTLS if !data.is_empty() => {
                self.reply_error(option, REP_ERR_INVALID, "STARTTLS has no data");
            }
            OPT_STARTTLS => self.reply_error(option, REP_ERR_UNSUP, "no TLS here"),
            _ => self.reply_error(option, REP_ERR_UNSUP, "unknown option"),
        }
        Ok(Next::Option)
    }

    fn find(&self, name: &str) -> Option<&Arc<Export>> {
        self.exports.iter().find(|export| export.name == name)
    }

    fn agreed(&self, export: &Arc<Export>) -> Agreed {
        Agreed {
            export: Arc::clone(export),
            mode: self.mode,
            block_status: self.context_of.as_deref() == Some(export.name.as_str()),
        }
    }

    /// The oldest way into transmission. It has no error replies: what fails ends the connection.
    fn export_name(&mut self, data: &[u8]) -> Result<Agreed, SessionError> {
        if self.mode == ReplyMode::Extended {
            let fault = "EXPORT_NAME with extended headers";
            return Err(SessionError::Handshake(fault));
        }
        let name = string_of(data)?;
        let export = self.find(&name);
        let export = export.ok_or(SessionError::Handshake("EXPORT_NAME of an unknown export"))?;
        let agreed = self.agreed(export);
        let flags = agreed.export.flags(self.mode);
        self.out
            .extend_from_slice(&agreed.export.size.to_be_bytes());
        self.out.extend_from_slice(&flags.to_be_bytes());
        if !self.no_zeroes {
            self.out.resize(self.out.len() + 124, 0);
        }
        Ok(agreed)
    }

    fn list(&mut self, data: &[u8]) {
        if !data.is_empty() {
            self.reply_error(OPT_LIST, REP_ERR_INVALID, "LIST has no data");
            return;
        }
        for export in self.exports {
            let mut entry = Vec::new();
            put_string(&mut entry, &export.name);
            entry.extend_from_slice(export.description.as_bytes());
            self.reply(OPT_LIST, REP_SERVER, &entry);
        }
        self.reply(OPT_LIST, REP_ACK, &[]);
    }

    fn info(&mut self, option: u32, data: &[u8]) -> Next {
        let request = match InfoRequest::decode(data) {
            Ok(request) => request,
            Err(error) => {
                self.reply_error(option, REP_ERR_INVALID, &error.to_string());
                return Next::Option;
            }
        };
        let Some(export) = self.find(&request.name) else {
            self.reply_error(option, REP_ERR_UNKNOWN, "no export has this name");
            return Next::Option;
        };
        let agreed = self.agreed(export);
        self.reply_infos(option, &agreed.export, &request.infos);
        self.reply(option, REP_ACK, &[]);
        if option == OPT_GO {
            Next::Transmission(agreed)
        } else {
            Next::Option
        }
    }

    fn reply_infos(&mut self, option: u32, export: &Export, asked: &[u16]) {
        if asked.contains(&INFO_NAME) {
            let mut info = INFO_NAME.to_be_bytes().to_vec();
            info.extend_from_slice(export.name.as_bytes());
            self.reply(option, REP_INFO, &info);
        }
        if asked.contains(&INFO_DESCRIPTION) && !export.description.is_empty() {
            let mut info = INFO_DESCRIPTION.to_be_bytes().to_vec();
            info.extend_from_slice(export.description.as_bytes());
            self.reply(option, REP_INFO, &info);
        }
        // Sent to all: who does not know it skips it, and who did not ask may still keep to it.
        let sizes = export.block_sizes;
        let mut info = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
        for size in [sizes.minimum, sizes.preferred, sizes.maximum] {
            info.extend_from_slice(&size.to_be_bytes());
        }
        self.reply(option, REP_INFO, &info);

        let mut info = INFO_EXPORT.to_be_bytes().to_vec();
        info.extend_from_slice(&export.size.to_be_bytes());
        info.extend_from_slice(&export.flags(self.mode).to_be_bytes());
        self.reply(option, REP_INFO, &info);
    }

    fn structured_reply(&mut self, data: &[u8]) {
        let option = OPT_STRUCTURED_REPLY;
        if !data.is_empty() {
            self.reply_error(option, REP_ERR_INVALID, "STRUCTURED_REPLY has no data");
        } else if self.mode == ReplyMode::Extended {
            let message = "extended headers are agreed on already";
            self.reply_error(option, REP_ERR_EXT_HEADER_REQD, message);
        } else {
            self.mode = ReplyMode::Structured;
            self.reply(option, REP_ACK, &[]);
        }
    }

    fn extended_headers(&mut self, data: &[u8]) {
        let option = OPT_EXTENDED_HEADERS;
        if !data.is_empty() {
            self.reply_error(option, REP_ERR_INVALID, "EXTENDED_HEADERS has no data");
        } else if self.mode == ReplyMode::Extended {
            let message = "extended headers are agreed on already";
            self.reply_error(option, REP_ERR_INVALID, message);
        } else {
            self.mode = ReplyMode::Extended;
            self.reply(option, REP_ACK, &[]);
        }
    }

    fn meta_context(&mut self, option: u32, data: &[u8]) {
        let set = option == OPT_SET_META_CONTEXT;
        if set {
            // Whatever comes of it, the last choice no longer holds.
            self.context_of = None;
        }
        if self.mode == ReplyMode::Simple {
            let message = "agree on structured replies first";
            self.reply_error(option, REP_ERR_INVALID, message);
            return;
        }
        let request = match MetaRequest::decode(data) {
            Ok(request) => request,
            Err(error) => {
                self.reply_error(option, REP_ERR_INVALID, &error.to_string());
                return;
            }
        };
        if self.find(&request.name).is_none() {
            self.reply_error(option, REP_ERR_UNKNOWN, "no export has this name");
            return;
        }
        let wildcard = !set && request.queries.is_empty();
        let chosen = wildcard
            || request
                .queries
                .iter()
                .any(|query| query == CONTEXT_BASE_ALLOCATION || (!set && query == "base:"));
        if chosen {
            // The id means nothing in a list.
            let id = if set { CONTEXT_ID } else { 0 };
            let mut context = id.to_be_bytes().to_vec();
            context.extend_from_slice(CONTEXT_BASE_ALLOCATION.as_bytes());
            self.reply(option, REP_META_CONTEXT, &context);
            if set {
                self.context_of = Some(request.name);
            }
        }
        self.reply(option, REP_ACK, &[]);
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) {
        // All that is sent is far below 4 GiB: names and descriptions are checked.
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        OptionReplyHeader {
            option,
            kind,
            length,
        }
        .encode(&mut self.out);
        self.out.extend_from_slice(data);
    }

    fn reply_error(&mut self, option: u32, kind: u32, message: &str) {
        self.reply(option, kind, message.as_bytes());
    }
}

fn put_string(out: &mut Vec<u8>, string: &str) {
    let len = u32::try_from(string.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(string.as_bytes());
}
