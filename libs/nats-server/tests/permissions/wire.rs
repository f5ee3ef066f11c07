//! The few lines of the NATS protocol that the tests speak themselves, so that
//! the server's own refusals are seen and no client library stands between.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    arrived: Vec<Message>,
    subscriptions: u32,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) reply: String,
    pub(crate) payload: String,
}

impl Client {
    /// Connects; an error is the server's refusal.
    pub(crate) fn connect(address: SocketAddr, user: &str, password: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut client = Self {
            stream: BufReader::new(stream),
            arrived: Vec::new(),
            subscriptions: 0,
        };
        let user = if user.is_empty() {
            String::new()
        } else {
            format!(r#","user":"{user}","pass":"{password}""#)
        };
        let name = user.split('"').nth(3).unwrap_or_default().to_owned();
        let greeting = format!(
            r#"CONNECT {{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"test","version":"1","name":"test-{name}"{user}}}"#
        );
        match client.roundtrip(&greeting) {
            None => Ok(client),
            Some(refused) => Err(refused),
        }
    }

    /// Subscribes; returns the server's refusal, if any.
    pub(crate) fn subscribe(&mut self, subject: &str) -> Option<String> {
        self.subscriptions += 1;
        self.roundtrip(&format!("SUB {subject} {}", self.subscriptions))
    }

    /// Publishes a small payload; returns the server's refusal, if any.
    pub(crate) fn publish(&mut self, subject: &str) -> Option<String> {
        self.roundtrip(&format!("PUB {subject} 2\r\n{{}}"))
    }

    pub(crate) fn send(&mut self, subject: &str, reply: &str, payload: &str) {
        let refused = self.roundtrip(&format!(
            "PUB {subject} {reply} {}\r\n{payload}",
            payload.len()
        ));
        assert_eq!(refused, None, "publish to {subject}");
    }

    /// Asks, with an inbox below `_INBOX_{inbox}`, and returns the answer.
    pub(crate) fn request(&mut self, inbox: &str, subject: &str, payload: &str) -> String {
        let reply = format!("_INBOX_{inbox}.{}", self.subscriptions);
        assert_eq!(self.subscribe(&reply), None);
        self.send(subject, &reply, payload);
        self.message_on(&reply).payload
    }

    /// The next message.
    pub(crate) fn message(&mut self) -> Message {
        while self.arrived.is_empty() {
            self.line();
        }
        self.arrived.remove(0)
    }

    /// The next message on one subject, or that was stored under it.
    pub(crate) fn message_on(&mut self, subscribed: &str) -> Message {
        loop {
            let message = self.message();
            if message.subject == subscribed || message.subject.starts_with("orchion.transcript.") {
                return message;
            }
        }
    }

    /// Sends a line and a ping; what the server refuses comes before its pong.
    fn roundtrip(&mut self, line: &str) -> Option<String> {
        // A refused connection may be closed already: then reading tells why.
        let _ = self
            .stream
            .get_mut()
            .write_all(format!("{line}\r\nPING\r\n").as_bytes());
        let mut refused = None;
        loop {
            match self.line() {
                Line::Pong => return refused,
                Line::Refused(reason) if reason.contains("Authorization") => return Some(reason),
                Line::Refused(reason) => refused = Some(reason),
                Line::Other => {}
            }
        }
    }

    fn line(&mut self) -> Line {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the server closed the connection");
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["PING"] => self.stream.get_mut().write_all(b"PONG\r\n").unwrap(),
            ["PONG"] => return Line::Pong,
            ["-ERR", ..] => return Line::Refused(line.trim().to_owned()),
            ["MSG", subject, _, size] => self.take(subject, "", "0", size),
            ["MSG", subject, _, reply, size] => self.take(subject, reply, "0", size),
            ["HMSG", subject, _, headers, size] => self.take(subject, "", headers, size),
            ["HMSG", subject, _, reply, headers, size] => self.take(subject, reply, headers, size),
            _ => {}
        }
        Line::Other
    }

    fn take(&mut self, subject: &str, reply: &str, headers: &str, size: &str) {
        let (headers, size): (usize, usize) = (headers.parse().unwrap(), size.parse().unwrap());
        let mut content = vec![0; size + 2];
        self.stream.read_exact(&mut content).unwrap();
        let payload = String::from_utf8(content[headers..size].to_vec()).unwrap();
        self.arrived.push(Message {
            subject: subject.to_owned(),
            reply: reply.to_owned(),
            payload,
        });
    }
}

enum Line {
    Pong,
    Refused(String),
    Other,
}
