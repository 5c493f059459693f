//! Reads Server-Sent Events (WHATWG HTML §9.2) out of pieces of any size, with a bound on each event.

use std::collections::VecDeque;

use thiserror::Error;

/// Octets of one line, and of the data of one event.
const MAX_EVENT_OCTETS: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamEvent {
    /// The kind of the event; `message` unless the server says otherwise.
    pub event: String,
    /// The last id seen, to resume from; empty if there was none.
    pub id: String,
    /// The data of the event.
    pub data: String,
}

#[derive(Debug, PartialEq, Eq, Error)]
#[error("with an event of more than {MAX_EVENT_OCTETS} octets")]
pub(super) struct TooLong;

#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    event: String,
    id: String,
    data: String,
    has_data: bool,
    ready: VecDeque<StreamEvent>,
}

impl Parser {
    /// Takes in a piece of the stream. Complete events wait in [`Parser::next`].
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        for part in piece.split_inclusive(|b| *b == b'\n') {
            if self.line.len() + part.len() > MAX_EVENT_OCTETS {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take_line(&String::from_utf8_lossy(&line))?;
            }
        }
        Ok(())
    }

    pub(super) fn next(&mut self) -> Option<StreamEvent> {
        self.ready.pop_front()
    }

    fn take_line(&mut self, line: &str) -> Result<(), TooLong> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            self.finish();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "id" => value.clone_into(&mut self.id),
            "data" => return self.add_data(value),
            // Comments, which keep the connection alive, have an empty field; others are to be ignored.
            _ => {}
        }
        Ok(())
    }

    fn add_data(&mut self, value: &str) -> Result<(), TooLong> {
        if self.data.len() + value.len() >= MAX_EVENT_OCTETS {
            return Err(TooLong);
        }
        if self.has_data {
            self.data.push('\n');
        }
        self.has_data = true;
        self.data.push_str(value);
        Ok(())
    }

    fn finish(&mut self) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if !std::mem::take(&mut self.has_data) {
            return;
        }
        let event = if event.is_empty() { "message".to_owned() } else { event };
        let id = self.id.clone();
        self.ready.push_back(StreamEvent { event, id, data });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<StreamEvent> {
        let mut parser = Parser::default();
        for piece in pieces {
            parser.push(piece).unwrap();
        }
        std::iter::from_fn(|| parser.next()).collect()
    }

    const TEXT: &[u8] = b": hello\n\nevent: snapshot\r\nid: 7\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n\
        retry: 5\ndata:x\n\ndata: cut sho";

    #[test]
    fn an_event_is_its_lines_up_to_an_empty_one() {
        let found = events(&[TEXT]);
        let seen: Vec<_> =
            found.iter().map(|e| (e.event.as_str(), e.id.as_str(), e.data.as_str())).collect();
        assert_eq!(seen, [("snapshot", "7", "{\"a\":\n1}"), ("message", "7", "x")]);
    }

    #[test]
    fn the_size_of_the_pieces_does_not_matter() {
        let whole = events(&[TEXT]);
        for size in 1..TEXT.len() {
            assert_eq!(events(&TEXT.chunks(size).collect::<Vec<_>>()), whole, "{size}");
        }
    }

    #[test]
    fn an_endless_line_or_event_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; MAX_EVENT_OCTETS / 2 + 1];
        assert_eq!(parser.push(&piece), Ok(()));
        assert_eq!(parser.push(&piece), Err(TooLong));

        let mut parser = Parser::default();
        let line = [b"data:".as_slice(), &piece, b"\n"].concat();
        assert_eq!(parser.push(&line), Ok(()));
        assert_eq!(parser.push(&line), Err(TooLong));
    }
}
