//! Reading server-sent events, in chunks of any size.

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Calls `on_line` with each line that `chunk` completes, without its end.
    pub fn feed(&mut self, chunk: &[u8], mut on_line: impl FnMut(&[u8])) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            let line = &chunk[start..end];
            start = end + 1;
            if self.rest.is_empty() {
                on_line(without_return(line));
            } else {
                self.rest.extend_from_slice(line);
                let whole = std::mem::take(&mut self.rest);
                on_line(without_return(&whole));
            }
        }
        self.rest.extend_from_slice(&chunk[start..]);
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Returns what follows `data:` on a line, if it is such a line. Enough for the
/// OpenAI routes, where one line is one event.
pub fn data(line: &[u8]) -> Option<&[u8]> {
    let data = line.strip_prefix(b"data:")?;
    Some(data.strip_prefix(b" ").unwrap_or(data))
}

/// One event, as the WHATWG rules put it together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's own `id:`; none when it has none.
    pub id: Option<String>,
    /// The name, `message` when it has none.
    pub event: String,
    /// The lines of data, joined with line feeds.
    pub data: String,
}

/// Puts lines together to events.
#[derive(Debug, Default)]
pub struct EventReader {
    lines: Lines,
    id: Option<String>,
    event: Option<String>,
    data: Option<String>,
}

impl EventReader {
    /// Returns the events that `chunk` completes. Comments and events without
    /// data are skipped, as browsers do.
    pub fn feed(&mut self, chunk: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut lines = std::mem::take(&mut self.lines);
        lines.feed(chunk, |line| events.extend(self.line(line)));
        self.lines = lines;
        events
    }

    fn line(&mut self, line: &[u8]) -> Option<Event> {
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            let (id, event) = (self.id.take(), self.event.take());
            return self.data.take().map(|data| Event {
                id,
                event: event.unwrap_or_else(|| "message".to_owned()),
                data,
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => self.event = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b": hello\r\ndata: {\"a\":1}\r\n\r\nid: 7\nevent: token\ndata:2\ndata: 3\n\nevent: x\n\ndata: [DONE]\n\n";

    #[test]
    fn any_chunking_gives_the_same_events() {
        let event = |id: Option<&str>, event: &str, data: &str| Event {
            id: id.map(str::to_owned),
            event: event.to_owned(),
            data: data.to_owned(),
        };
        for size in 1..TEXT.len() {
            let mut reader = EventReader::default();
            let got: Vec<Event> = TEXT.chunks(size).flat_map(|c| reader.feed(c)).collect();
            assert_eq!(
                got,
                [
                    event(None, "message", "{\"a\":1}"),
                    event(Some("7"), "token", "2\n3"),
                    event(None, "message", "[DONE]"),
                ]
            );
        }
    }

    #[test]
    fn any_chunking_gives_the_same_data_lines() {
        for size in 1..TEXT.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for chunk in TEXT.chunks(size) {
                lines.feed(chunk, |line| got.extend(data(line).map(<[u8]>::to_vec)));
            }
            assert_eq!(got, [&b"{\"a\":1}"[..], b"2", b"3", b"[DONE]"]);
        }
    }
}
