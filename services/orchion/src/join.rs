//! The one line that brings another host into the cluster: where NATS is, and
//! the agents' user and password. Whoever has it can join, so it is a secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::exit::{Failure, Kind, Result};

const SCHEME: &str = "orchion://";

/// What a host needs to join.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Join {
    /// Address of NATS, as the other host reaches it.
    #[serde(rename = "h")]
    pub(crate) host: String,
    /// Port of NATS.
    #[serde(rename = "p")]
    pub(crate) port: u16,
    /// User of agents.
    #[serde(rename = "u")]
    pub(crate) user: String,
    /// Their password.
    #[serde(rename = "w")]
    pub(crate) password: String,
}

impl Join {
    /// Reads the line.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let packed = line.trim().strip_prefix(SCHEME);
        let bytes = packed.and_then(|packed| URL_SAFE_NO_PAD.decode(packed).ok());
        // The line is a secret: no error repeats it.
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| {
                Failure::new(Kind::Usage, "the line after --join is not whole")
                    .then("copy all of what `orchion up --lan` printed, from orchion:// on")
            })
    }

    /// Where NATS is.
    pub(crate) fn nats_url(&self) -> String {
        if self.host.contains(':') {
            format!("nats://[{}]:{}", self.host, self.port)
        } else {
            format!("nats://{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Join {
    /// The line itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{SCHEME}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Join({}, {})", self.nats_url(), self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() -> Join {
        Join {
            host: "192.168.1.20".to_owned(),
            port: 4222,
            user: "agent".to_owned(),
            password: "p0123".to_owned(),
        }
    }

    #[test]
    fn what_is_printed_is_read() {
        let line = join().to_string();
        assert!(
            line.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b":/-_".contains(&b))
        );
        assert_eq!(Join::parse(&format!(" {line}\n")).unwrap(), join());
    }

    #[test]
    fn no_error_and_no_debug_shows_the_password() {
        assert!(!format!("{:?}", join()).contains("p0123"));
        let line = join().to_string();
        let failure = Join::parse(&line[..line.len() - 3]).unwrap_err();
        assert!(!failure.to_string().contains(&line[10..40]));
    }

    #[test]
    fn addresses_of_both_families_become_urls() {
        assert_eq!(join().nats_url(), "nats://192.168.1.20:4222");
        let six = Join {
            host: "fd00::7".to_owned(),
            ..join()
        };
        assert_eq!(six.nats_url(), "nats://[fd00::7]:4222");
    }
}
