//! How frames are cut into pieces on a stream, so that an urgent one need not wait for the end of a large one.
//!
//! Each piece has four octets in front, little endian: its length in the lower 24 bits, above them bit 0 "urgent
//! lane" and bit 1 "last piece of its frame". The pieces of one lane are in order.

use std::io;

use bytes::{Buf, BytesMut};
use dunlin_core::gossip::Lane;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Octets of one piece at most.
const MAX_PIECE_OCTETS: usize = 32 * 1024;
/// Octets of a frame on the urgent lane at most.
const MAX_URGENT_FRAME_OCTETS: usize = 1 << 20;
/// Octets of a frame on the normal lane at most: a whole commit of the largest node fits.
const MAX_NORMAL_FRAME_OCTETS: usize = 64 << 20;
/// Octets in front of each piece, and what stands in them beside the length.
const HEADER_OCTETS: usize = 4;
const URGENT: u32 = 1 << 24;
const LAST: u32 = 1 << 25;

/// Puts frames together from what is read.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    input: BytesMut,
    urgent: Vec<u8>,
    normal: Vec<u8>,
}

impl FrameReader {
    /// The next whole frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the stream breaks, ends within a frame, or a piece cannot be one.
    pub(super) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            if stream.read_buf(&mut self.input).await? == 0 {
                let is_between =
                    self.input.is_empty() && self.urgent.is_empty() && self.normal.is_empty();
                return if is_between {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// The next frame, if what was read so far completes one.
    fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        while let Some(header) = self.input.first_chunk::<HEADER_OCTETS>() {
            let header = u32::from_le_bytes(*header);
            let octets = usize::try_from(header & 0x00ff_ffff).map_err(io::Error::other)?;
            if octets > MAX_PIECE_OCTETS || header & !(0x00ff_ffff | URGENT | LAST) != 0 {
                return Err(invalid(format!(
                    "a piece of {octets} octets; {MAX_PIECE_OCTETS} are allowed"
                )));
            }
            if self.input.len() < HEADER_OCTETS + octets {
                return Ok(None);
            }
            self.input.advance(HEADER_OCTETS);
            let (frame, max) = match header & URGENT {
                0 => (&mut self.normal, MAX_NORMAL_FRAME_OCTETS),
                _ => (&mut self.urgent, MAX_URGENT_FRAME_OCTETS),
            };
            if frame.len() + octets > max {
                return Err(invalid(format!("a frame of more than {max} octets")));
            }
            frame.extend_from_slice(&self.input[..octets]);
            self.input.advance(octets);
            if header & LAST != 0 {
                return Ok(Some(std::mem::take(frame)));
            }
        }
        Ok(None)
    }
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// A frame that is being written.
#[derive(Debug)]
pub(super) struct FrameWriter {
    octets: Vec<u8>,
    at: usize,
    lane: Lane,
}

impl FrameWriter {
    pub(super) fn new(lane: Lane, octets: Vec<u8>) -> Self {
        Self { octets, at: 0, lane }
    }

    /// Writes one more piece; true when it was the last.
    ///
    /// # Errors
    /// When the stream breaks.
    pub(super) async fn write_piece(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<bool> {
        let rest = &self.octets[self.at..];
        let piece = &rest[..rest.len().min(MAX_PIECE_OCTETS)];
        let is_last = piece.len() == rest.len();
        let lane = match self.lane {
            Lane::Urgent => URGENT,
            Lane::Normal => 0,
        };
        let length = u32::try_from(piece.len()).expect("a piece is small");
        let header = length | lane | if is_last { LAST } else { 0 };
        // One buffer, so that small frames make one TLS record.
        let mut out = Vec::with_capacity(HEADER_OCTETS + piece.len());
        out.extend(header.to_le_bytes());
        out.extend_from_slice(piece);
        stream.write_all(&out).await?;
        self.at += piece.len();
        Ok(is_last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn written(lane: Lane, octets: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut frame = FrameWriter::new(lane, octets);
        while !frame.write_piece(&mut out).await.unwrap() {}
        out
    }

    #[tokio::test]
    async fn an_urgent_frame_overtakes_a_large_one_between_two_pieces() {
        let large = vec![7; 3 * MAX_PIECE_OCTETS];
        let mut wire = Vec::new();
        let mut normal = FrameWriter::new(Lane::Normal, large.clone());
        assert!(!normal.write_piece(&mut wire).await.unwrap());
        wire.extend(written(Lane::Urgent, vec![1, 2, 3]).await);
        while !normal.write_piece(&mut wire).await.unwrap() {}
        let (mut reader, mut stream) = (FrameReader::default(), &wire[..]);
        assert_eq!(reader.next(&mut stream).await.unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(reader.next(&mut stream).await.unwrap(), Some(large));
        assert_eq!(reader.next(&mut stream).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_too_large_or_cut_short_is_refused() {
        let too_large = (u32::try_from(MAX_PIECE_OCTETS).unwrap() + 1).to_le_bytes();
        let error = FrameReader::default().next(&mut &too_large[..]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let strange = [1, 0, 0, 0xff, 0];
        assert!(FrameReader::default().next(&mut &strange[..]).await.is_err());
        let whole = written(Lane::Normal, vec![9; 10]).await;
        let error = FrameReader::default().next(&mut &whole[..8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn an_urgent_frame_has_a_limit_of_its_own() {
        let mut wire = Vec::new();
        let mut frame = FrameWriter::new(Lane::Urgent, vec![0; MAX_URGENT_FRAME_OCTETS + 1]);
        while !frame.write_piece(&mut wire).await.unwrap() {}
        assert!(FrameReader::default().next(&mut &wire[..]).await.is_err());
    }
}
