//! As much of HTTP as the whole-system checks need: one request per connection,
//! the answer read line by line while it comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Longest silence of a server that is not considered dead.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server and the token it wants.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<String>,
}

/// An answer whose head was read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Box<dyn BufRead>,
}

impl Server {
    /// Asks for `path`.
    ///
    /// # Errors
    /// When no answer comes.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, "")
    }

    /// Sends a JSON document to `path`.
    ///
    /// # Errors
    /// When no answer comes.
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send("POST", path, &body.to_string())
    }

    fn send(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        let asked = || format!("{method} {path} at {}", self.address);
        let mut stream = TcpStream::connect(self.address).with_context(asked)?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .with_context(asked)?;
        stream.set_nodelay(true).with_context(asked)?;
        let token = self
            .token
            .as_ref()
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{token}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).with_context(asked)?;
        Answer::read(stream).with_context(asked)
    }
}

impl Answer {
    fn read(stream: TcpStream) -> anyhow::Result<Self> {
        let mut stream = BufReader::new(stream);
        let status = line(&mut stream)?.context("the connection was closed without an answer")?;
        let status = status
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .context("read the status line")?;
        let mut headers = Vec::new();
        while let Some(line) = line(&mut stream)?.filter(|line| !line.is_empty()) {
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_lowercase(), value.trim().to_owned()));
            }
        }
        let is_chunked = headers
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body: Box<dyn BufRead> = if is_chunked {
            Box::new(BufReader::new(Chunked { stream, left: 0 }))
        } else {
            Box::new(stream)
        };
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    /// The value of a header, named in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The whole body.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) fn text(mut self) -> anyhow::Result<String> {
        let mut text = String::new();
        self.body
            .read_to_string(&mut text)
            .context("read the body")?;
        Ok(text)
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// When the status is no success or the body is no JSON.
    pub(crate) fn json(self) -> anyhow::Result<Value> {
        let status = self.status;
        let text = self.text()?;
        if status != 200 {
            bail!("answered {status}: {text}");
        }
        serde_json::from_str(&text).context("read JSON")
    }

    /// The payload of the next event of a stream; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) fn event(&mut self) -> anyhow::Result<Option<String>> {
        while let Some(line) = line(&mut self.body)? {
            if let Some(data) = line.strip_prefix("data:") {
                return Ok(Some(data.trim_start().to_owned()));
            }
        }
        Ok(None)
    }
}

/// A line without its end; `None` when the other side has closed.
fn line(stream: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).context("read a line")?;
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Takes the chunks of a body apart.
struct Chunked {
    stream: BufReader<TcpStream>,
    left: usize,
}

impl Read for Chunked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let broken = || std::io::Error::other("the body broke off");
        if self.left == 0 {
            let mut size = String::new();
            self.stream.read_line(&mut size)?;
            // The end of the chunk before.
            if size.trim().is_empty() && !size.is_empty() {
                size.clear();
                self.stream.read_line(&mut size)?;
            }
            self.left = usize::from_str_radix(size.trim(), 16).map_err(|_| broken())?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let most = buffer.len().min(self.left);
        let read = self.stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(broken());
        }
        self.left -= read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_whole_answer_is_read() {
        let server = serve("HTTP/1.1 200 OK\r\nX-Job: 7\r\nContent-Length: 8\r\n\r\n{\"a\": 1}");
        let answer = server.get("/").unwrap();
        assert_eq!((answer.status, answer.header("x-job")), (200, Some("7")));
        assert_eq!(answer.json().unwrap()["a"], 1);
    }

    #[test]
    fn events_come_out_of_chunks() {
        let server = serve(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             9\r\ndata: one\r\n2\r\n\n\n\r\nb\r\ndata: two\n\n\r\n0\r\n\r\n",
        );
        let mut answer = server.get("/").unwrap();
        assert_eq!(answer.event().unwrap().as_deref(), Some("one"));
        assert_eq!(answer.event().unwrap().as_deref(), Some("two"));
        assert_eq!(answer.event().unwrap(), None);
    }

    #[test]
    fn a_cut_stream_is_no_end() {
        let server = serve("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: o");
        let mut answer = server.get("/").unwrap();
        assert!(answer.event().is_err());
    }

    #[test]
    fn a_refusal_is_no_json() {
        let server = serve("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
        assert!(
            server
                .get("/")
                .unwrap()
                .json()
                .unwrap_err()
                .to_string()
                .contains("401: no")
        );
    }

    /// A server that gives one answer to whatever is asked.
    fn serve(answer: &'static str) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Server {
            address,
            token: None,
        }
    }
}
