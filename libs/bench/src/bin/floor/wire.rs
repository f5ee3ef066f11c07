//! The messages on a reply subject: one byte of flags, a head in the first one,
//! and a piece of the body as the engine wrote it.

use bytes::{BufMut as _, Bytes, BytesMut};

/// The first message: status and kind of the answer follow the flags.
pub(super) const FIRST: u8 = 1;
/// The last message.
pub(super) const LAST: u8 = 2;
/// The engine broke off.
pub(super) const BROKEN: u8 = 4;

/// Builds a message; `head` is the status and whether the body is a stream.
pub(super) fn framed(flags: u8, head: Option<(u16, bool)>, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 4);
    out.put_u8(flags);
    if let Some((status, is_stream)) = head {
        out.put_u16(status);
        out.put_u8(u8::from(is_stream));
    }
    out.put_slice(data);
    out.freeze()
}
