//! Frames on the daemon's side of the socket. What a client may make the daemon hold in memory is small;
//! what the daemon has to say may be of any size.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use super::protocol::{MAX_FRAME, MAX_REQUEST, PART};

/// Reads frames of at most [`MAX_REQUEST`] bytes; writes messages of any size, in parts where one is
/// longer than [`MAX_FRAME`].
pub struct ServerCodec(LengthDelimitedCodec);

impl Default for ServerCodec {
    fn default() -> Self {
        let requests = LengthDelimitedCodec::builder()
            .length_field_type::<u32>()
            .max_frame_length(MAX_REQUEST)
            .new_codec();
        Self(requests)
    }
}

impl Decoder for ServerCodec {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        self.0.decode(from)
    }
}

impl Encoder<Bytes> for ServerCodec {
    type Error = io::Error;

    fn encode(&mut self, message: Bytes, to: &mut BytesMut) -> io::Result<()> {
        let Some((&kind, mut body)) = message.split_first() else {
            return Err(io::Error::other("a message of no kind"));
        };
        while let Some((part, rest)) = body.split_at_checked(MAX_FRAME)
            && !rest.is_empty()
        {
            frame(PART, part, to);
            body = rest;
        }
        frame(kind, body, to);
        Ok(())
    }
}

/// Writes a frame whose body has at most [`MAX_FRAME`] bytes.
fn frame(kind: u8, body: &[u8], to: &mut BytesMut) {
    to.reserve(5 + body.len());
    // Far less than 4 GiB.
    to.put_u32(body.len() as u32 + 1);
    to.put_u8(kind);
    to.put_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::{
        client::receive,
        protocol::{self, Frame, Reply},
    };

    /// Messages around the longest frame, and far beyond it, arrive whole and in order.
    #[test]
    fn messages_of_any_size_pass() {
        let sizes = [
            0,
            1,
            MAX_REQUEST,
            MAX_FRAME - 20,
            MAX_FRAME,
            MAX_FRAME + 1,
            5 * MAX_FRAME,
        ];
        let (mut codec, mut wire) = (ServerCodec::default(), BytesMut::new());
        for size in sizes {
            let reason = "x".repeat(size);
            let message = protocol::json(&Reply::Incomplete { reason });
            codec.encode(message, &mut wire).unwrap();
        }
        let mut from = &wire[..];
        for size in sizes {
            match receive(&mut from).unwrap() {
                Some(Frame::Message(Reply::Incomplete { reason })) => {
                    assert_eq!(reason.len(), size);
                }
                other => panic!("{size} B: {other:?}"),
            }
        }
        assert!(receive::<Reply>(&mut from).unwrap().is_none());
    }

    #[test]
    fn a_message_that_breaks_off_is_no_message() {
        let (mut codec, mut wire) = (ServerCodec::default(), BytesMut::new());
        let reason = "x".repeat(2 * MAX_FRAME);
        codec
            .encode(protocol::json(&Reply::Failed { reason }), &mut wire)
            .unwrap();
        for length in [3, 4, 100, MAX_FRAME + 5, wire.len() - 1] {
            let mut from = &wire[..length];
            assert!(receive::<Reply>(&mut from).is_err(), "{length} B");
        }
    }

    #[test]
    fn a_request_that_is_too_long_is_refused() {
        let (mut codec, mut wire) = (ServerCodec::default(), BytesMut::new());
        frame(b'j', &vec![b' '; MAX_REQUEST], &mut wire);
        assert!(codec.decode(&mut wire).is_err());
    }
}
