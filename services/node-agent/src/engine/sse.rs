//! Server-sent events, as engines write them: lines that begin with `data:`.

use bytes::{Buf as _, Bytes};

/// Longest line that is waited for, in bytes.
const LONGEST: usize = 8 << 20;

/// A line without an end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the stream is longer than {LONGEST} bytes")]
pub struct TooLong;

/// Cuts a stream into lines, of which events are made. Whole lines are read
/// where they lie; only a line that is cut by the connection is put together.
#[derive(Debug, Default)]
pub struct Lines {
    /// What came last, without the lines that were read.
    fresh: Bytes,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl Lines {
    /// Adds what came from the connection; everything before must have been
    /// read.
    ///
    /// # Errors
    /// [`TooLong`] when no line end comes.
    pub fn push(&mut self, bytes: Bytes) -> Result<(), TooLong> {
        if self.begun.len() + self.fresh.len() > LONGEST {
            return Err(TooLong);
        }
        self.begun.extend_from_slice(&self.fresh);
        self.fresh = bytes;
        Ok(())
    }

    /// Hands the next whole line to `read`; `None` when there is none yet.
    pub fn next<T>(&mut self, read: impl FnOnce(Line<'_>) -> T) -> Option<T> {
        let at = memchr::memchr(b'\n', &self.fresh)?;
        let line = self.fresh.split_to(at);
        self.fresh.advance(1);
        if self.begun.is_empty() {
            return Some(read(Line::of(&line)));
        }
        self.begun.extend_from_slice(&line);
        let said = read(Line::of(&self.begun));
        self.begun.clear();
        Some(said)
    }
}

/// One line of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The payload of an event.
    Data(&'a [u8]),
    /// `[DONE]`: the stream is complete.
    Done,
    /// An empty line, a comment, a field that says nothing here.
    Nothing,
    /// Something that is no event: a proxy's error in the middle of a stream.
    Garbage(&'a [u8]),
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Self {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            return match data {
                b"[DONE]" => Self::Done,
                data => Self::Data(data),
            };
        }
        let fields: [&[u8]; 4] = [b":", b"event:", b"id:", b"retry:"];
        match line.is_empty() || fields.iter().any(|field| line.starts_with(field)) {
            true => Self::Nothing,
            false => Self::Garbage(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&str]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for chunk in chunks {
            lines
                .push(Bytes::copy_from_slice(chunk.as_bytes()))
                .unwrap();
            while let Some(said) = lines.next(|line| format!("{line:?}")) {
                out.push(said);
            }
        }
        out.retain(|line| line != "Nothing");
        out
    }

    fn data(text: &str) -> String {
        format!("{:?}", Line::Data(text.as_bytes()))
    }

    #[test]
    fn events_are_found_however_the_stream_is_cut() {
        let stream =
            "data: {\"a\":1}\n\ndata:{\"b\":2}\r\n\r\n: ping\n\nevent: x\ndata: [DONE]\n\n";
        let expected = [data("{\"a\":1}"), data("{\"b\":2}"), "Done".to_owned()];
        assert_eq!(all(&[stream]), expected);
        let bytes: Vec<String> = stream.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(all(&bytes), expected);
    }

    #[test]
    fn a_bare_line_is_garbage() {
        let said = all(&["proxy error: Failed to read connection\n"]);
        assert!(said[0].starts_with("Garbage"), "{said:?}");
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let mut lines = Lines::default();
        lines.push(vec![b'x'; LONGEST + 1].into()).unwrap();
        assert!(lines.next(|_| ()).is_none());
        assert_eq!(lines.push(Bytes::from_static(b"x")), Err(TooLong));
    }
}
