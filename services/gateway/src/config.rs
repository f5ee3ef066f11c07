//! Section `gateway` of the configuration, and the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use orchion_contract::stores::MAX_BLOB_BYTES;
use orchion_service::{
    Command, DEFAULT_GRACE, Flag, HumanDuration, Program, Retired, Secret, Settings, telemetry,
};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, de};

/// The gateway as a program.
pub const PROGRAM: Program<Config> = Program {
    name: "gateway",
    about: "Translates HTTP to the bus and back",
    flags: &[
        Flag {
            name: "http-port",
            key: "gateway.http_port",
            value: "PORT",
            help: "Port to listen on; 0 takes a free one",
            env: Some("ORCHION_HTTP_PORT"),
            aliases: &[],
        },
        Flag {
            name: "bind",
            key: "gateway.bind",
            value: "ADDRESS",
            help: "Address to listen on; any but a loopback address needs a token",
            env: Some("ORCHION_BIND"),
            aliases: &[],
        },
        orchion_bus::NATS_URL_FLAG,
    ],
    retired: &[
        Retired {
            name: "port",
            message: "nodes and services meet on NATS now: use --nats-url; for the HTTP port use --http-port",
        },
        Retired {
            name: "api-key",
            message: "set gateway.tokens in orchion.toml, or ORCHION_GATEWAY__TOKENS",
        },
    ],
    commands: &[Command {
        name: "token",
        about: "Print the token that clients need",
        run: print_token,
    }],
    grace: DEFAULT_GRACE,
};

/// What the gateway reads from the configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where NATS is.
    pub nats: orchion_bus::Config,
    /// What is logged, and how.
    pub telemetry: telemetry::Settings,
    /// The gateway's own section.
    pub gateway: Gateway,
}

/// Section `gateway`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Address to listen on.
    pub bind: String,
    /// Port to listen on; 0 takes a free one.
    pub http_port: u16,
    /// Tokens that open the gateway. Empty opens it to everybody who reaches
    /// it, which is allowed on a loopback address alone.
    pub tokens: Tokens,
    /// Web pages from these origins may use the gateway.
    pub cors_origins: Vec<String>,
    /// Largest request body, in bytes.
    pub body_limit: usize,
    /// Whether a chat ends when its caller hangs up.
    pub cancel_on_disconnect: bool,
    /// Longest silence of a stream: then a comment is sent.
    pub keep_alive: HumanDuration,
    /// Who reads nothing for this long is cut off.
    pub stall_timeout: HumanDuration,
    /// How long a request waits for a scheduler that is being replaced.
    pub patience: HumanDuration,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::LOCALHOST.to_string(),
            http_port: 8080,
            tokens: Tokens::default(),
            cors_origins: ["http://localhost:5173", "http://127.0.0.1:5173"]
                .map(str::to_owned)
                .to_vec(),
            body_limit: 16 * 1024 * 1024,
            cancel_on_disconnect: true,
            keep_alive: HumanDuration::from_secs(15),
            stall_timeout: HumanDuration::from_secs(60),
            patience: HumanDuration::from_secs(5),
        }
    }
}

impl Gateway {
    /// Where to listen.
    ///
    /// # Errors
    /// When `bind` is not an IP address.
    pub fn address(&self) -> Result<SocketAddr, std::net::AddrParseError> {
        let bind = match self.bind.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            bind => bind.trim_matches(['[', ']']).parse()?,
        };
        Ok(SocketAddr::new(bind, self.http_port))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self.address() {
            Ok(address) if !address.ip().is_loopback() && self.tokens.is_empty() => {
                problems.push(format!(
                    "gateway.bind: {} can be reached from other machines, so a token is needed: \
                     set gateway.tokens (or ORCHION_GATEWAY__TOKENS), or bind to 127.0.0.1",
                    self.bind
                ));
            }
            Ok(_) => {}
            Err(_) => problems.push(format!(
                "gateway.bind: `{}` is not an IP address; write 127.0.0.1, or 0.0.0.0 for every interface",
                self.bind
            )),
        }
        if self.tokens.iter().any(|token| !is_sendable(token)) {
            problems.push(
                "gateway.tokens: a token is empty or has characters that cannot stand in a header; \
                 use letters, digits and dashes"
                    .to_owned(),
            );
        }
        for origin in &self.cors_origins {
            if !origin.contains("://") || origin.ends_with('/') {
                problems.push(format!(
                    "gateway.cors_origins: `{origin}` is not an origin; write http://HOST:PORT without a path"
                ));
            }
        }
        if self.body_limit == 0 || self.body_limit as u64 > MAX_BLOB_BYTES {
            problems.push(format!(
                "gateway.body_limit: must be above 0 and at most {MAX_BLOB_BYTES}"
            ));
        }
        for (key, value) in [
            ("keep_alive", self.keep_alive),
            ("stall_timeout", self.stall_timeout),
        ] {
            if value.is_zero() {
                problems.push(format!("gateway.{key}: must be above 0s"));
            }
        }
        problems
    }
}

impl Settings for Config {
    const SECTIONS: &'static [&'static str] = &["nats", "telemetry", "gateway"];

    fn telemetry(&self) -> &telemetry::Settings {
        &self.telemetry
    }

    fn validate(&self) -> Vec<String> {
        [self.nats.problems(), self.gateway.problems()].concat()
    }
}

/// Tokens: a list of secrets, or a single one, each as text or `{ file = "path" }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tokens(Vec<Secret>);

impl std::ops::Deref for Tokens {
    type Target = [Secret];
    fn deref(&self) -> &[Secret] {
        &self.0
    }
}

impl FromIterator<Secret> for Tokens {
    fn from_iter<I: IntoIterator<Item = Secret>>(secrets: I) -> Self {
        Self(secrets.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Tokens;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of texts or { file = \"path\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tokens, E> {
        Ok(Tokens(vec![Secret::new(text)]))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Tokens, A::Error> {
        Secret::deserialize(MapAccessDeserializer::new(map)).map(|secret| Tokens(vec![secret]))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Tokens, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Tokens)
    }
}

fn is_sendable(token: &Secret) -> bool {
    !token.is_empty() && token.expose().bytes().all(|byte| byte.is_ascii_graphic())
}

fn print_token(config: &Config) -> anyhow::Result<String> {
    let Some(token) = config.gateway.tokens.first() else {
        anyhow::bail!(
            "no token is set, so none is needed on this host; set gateway.tokens to require one"
        );
    };
    Ok(token.expose().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(toml_value: &str, bind: &str) -> Result<Config, Vec<String>> {
        let environment = [
            ("ORCHION_GATEWAY__TOKENS".to_owned(), toml_value.to_owned()),
            ("ORCHION_GATEWAY__BIND".to_owned(), bind.to_owned()),
            ("ORCHION_DATA_DIR".to_owned(), "/nonexistent".to_owned()),
        ];
        let sources = orchion_service::config::Sources {
            environment: environment.into_iter().collect(),
            ..Default::default()
        };
        orchion_service::config::load(&sources).map_err(|problems| problems.0)
    }

    #[test]
    fn tokens_are_one_text_or_a_list() {
        let one = with("abc", "0.0.0.0").unwrap();
        assert_eq!(one.gateway.tokens[0].expose(), "abc");
        let two = with("[\"abc\", \"def\"]", "::").unwrap();
        assert_eq!(two.gateway.tokens.len(), 2);
    }

    #[test]
    fn an_open_address_without_a_token_is_refused() {
        let problems = with("", "0.0.0.0").unwrap_err();
        assert!(problems[0].contains("set gateway.tokens"), "{problems:?}");
        assert!(with("", "127.0.0.1").is_ok());
        assert!(with("", "::1").is_ok());
    }

    #[test]
    fn an_address_that_is_none_is_named() {
        let problems = with("", "all").unwrap_err();
        assert!(
            problems[0].contains("`all` is not an IP address"),
            "{problems:?}"
        );
    }

    #[test]
    fn the_token_command_prints_the_first_token() {
        assert_eq!(
            print_token(&with("abc", "127.0.0.1").unwrap()).unwrap(),
            "abc"
        );
        assert!(print_token(&Config::default()).is_err());
    }
}
