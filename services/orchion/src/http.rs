//! A small HTTP client: one connection per request, streaming answers.
//!
//! TLS is set up on the first `https://` address, so that a machine without
//! root certificates can still speak plain HTTP.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A gateway answers admissions within its own deadlines, which are shorter.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read as a whole.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Why a request got no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The address cannot be read.
    #[error("'{url}' is no address: {reason}; write http://HOST:PORT")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to {url}: {reason}")]
    Connect {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The connection ended before the answer did.
    #[error("the connection to {url} ended: {reason}")]
    Cut {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The answer is not what the route promises.
    #[error("{url} answered what cannot be read: {reason}")]
    Answer {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
}

/// Where a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    tls: bool,
    host: String,
    port: u16,
    prefix: String,
}

/// One request.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Path and query, from `/` on.
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Option<Bytes>,
}

/// An answer whose body is still to be read.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    url: String,
    body: Incoming,
    // Ends with the answer.
    _connection: JoinSet<()>,
}

impl Base {
    /// The port of a gateway when nobody chooses one.
    pub(crate) const DEFAULT_PORT: u16 = 8080;

    /// Reads an address; without a scheme it is plain HTTP.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::Address {
            url: text.to_owned(),
            reason,
        };
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = full.parse().map_err(|error| refused(format!("{error}")))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(refused("it is neither http nor https".to_owned())),
        };
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err(refused("it names no host".to_owned()));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Whether it names this machine.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost"
            || host
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (true | false, port) => format!("{}:{port}", self.host),
        }
    }
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

/// Sends a request and waits for the head of the answer.
pub(crate) async fn send(base: &Base, request: Request<'_>) -> Result<Response, Error> {
    let url = base.to_string();
    let stream = connect(base, &url).await?;
    let exchange = async {
        if base.tls {
            let stream = encrypt(base, stream)
                .await
                .map_err(|reason| Error::Connect {
                    url: url.clone(),
                    reason,
                })?;
            exchange(base, stream, request).await
        } else {
            exchange(base, stream, request).await
        }
    };
    timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| {
        Err(Error::Cut {
            url: url.clone(),
            reason: format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
        })
    })
}

async fn connect(base: &Base, url: &str) -> Result<TcpStream, Error> {
    let host = base.host.trim_matches(['[', ']']);
    let failed = |reason: String| Error::Connect {
        url: url.to_owned(),
        reason,
    };
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host, base.port)))
        .await
        .map_err(|_| failed(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    stream
        .set_nodelay(true)
        .map_err(|error| failed(error.to_string()))?;
    Ok(stream)
}

async fn encrypt(
    base: &Base,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let host = base.host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(tls()?);
    connector
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())
}

/// The machine's root certificates, read once.
fn tls() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let build = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "this machine has no root certificates; install the package ca-certificates"
                    .to_owned(),
            );
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(
            builder.with_root_certificates(roots).with_no_client_auth(),
        ))
    };
    CONFIG.get_or_init(build).clone()
}

async fn exchange<S>(base: &Base, stream: S, request: Request<'_>) -> Result<Response, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let url = base.to_string();
    let cut = |error: hyper::Error| Error::Cut {
        url: url.clone(),
        reason: reason(&error),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(cut)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Its end is seen where the answer is read.
        let _ = connection.await;
    });
    let message = build(base, request).map_err(|reason| Error::Address {
        url: url.clone(),
        reason,
    })?;
    let (head, body) = sender
        .send_request(message)
        .await
        .map_err(cut)?
        .into_parts();
    Ok(Response {
        status: head.status,
        headers: head.headers,
        url,
        body,
        _connection: driver,
    })
}

fn build(base: &Base, request: Request<'_>) -> Result<hyper::Request<Full<Bytes>>, String> {
    let mut message = hyper::Request::builder()
        .method(request.method)
        .uri(format!("{}{}", base.prefix, request.path))
        .header(header::HOST, base.authority())
        .header(
            header::USER_AGENT,
            concat!("orchion/", env!("CARGO_PKG_VERSION")),
        );
    for (name, value) in request.headers {
        let mut value =
            HeaderValue::from_str(&value).map_err(|error| format!("{name}: {error}"))?;
        value.set_sensitive(name == header::AUTHORIZATION);
        message = message.header(name, value);
    }
    if request.body.is_some() {
        message = message.header(header::CONTENT_TYPE, "application/json");
    }
    message
        .body(Full::new(request.body.unwrap_or_default()))
        .map_err(|error| error.to_string())
}

/// hyper hides the cause one level down.
fn reason(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl Response {
    /// The next bytes of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| Error::Cut {
                url: self.url.clone(),
                reason: reason(&error),
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body.
    pub(crate) async fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() > MAX_ANSWER_BYTES {
                return Err(Error::Answer {
                    url: self.url,
                    reason: "it is too large".to_owned(),
                });
            }
        }
        Ok(whole)
    }

    /// The value of a header, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let shown = |text: &str| Base::parse(text).map(|base| base.to_string()).ok();
        assert_eq!(
            shown("localhost:8080").as_deref(),
            Some("http://localhost:8080")
        );
        assert_eq!(
            shown("https://ai.example.org/orchion/").as_deref(),
            Some("https://ai.example.org/orchion")
        );
        assert_eq!(
            shown("http://[::1]:8080").as_deref(),
            Some("http://[::1]:8080")
        );
        assert_eq!(shown("ftp://x"), None);
        assert_eq!(shown("http://"), None);
    }

    #[test]
    fn loopback_is_known() {
        let local = |text: &str| Base::parse(text).unwrap().is_local();
        assert!(local("localhost") && local("http://127.0.0.1:1") && local("http://[::1]:8080"));
        assert!(!local("http://10.0.0.1:8080"));
    }
}
