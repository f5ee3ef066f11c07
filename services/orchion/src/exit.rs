//! How a command ends: the exit codes, and errors that say what to do next.
//!
//! The codes are those of BSD's `sysexits.h` where it has one, so that a script
//! can tell "correct this" from "try again later".

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use orchion_contract::{ErrorBody, ErrorCode};

/// The result of a command.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Why a command failed, by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line or the configuration is wrong.
    Usage,
    /// The request was understood and refused: it must be changed.
    Refused,
    /// There is no such node, job, model or route.
    NotFound,
    /// A part that is needed is not there: no gateway, no NATS, a port is taken.
    Unavailable,
    /// Something is broken; not the caller's fault.
    Internal,
    /// It did not work now and may work later.
    Retry,
    /// No token, a wrong one, or one that may not do this.
    Denied,
    /// The user pressed Ctrl-C.
    Interrupted,
    /// Whoever read the output has gone: nothing is left to do.
    NobodyReads,
}

/// The exit codes, as `--help` and the documents list them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  64   the command line or the configuration is wrong
  65   the request was refused as it is: change it
  66   no such node, job or model
  69   something needed is not there: no gateway, no NATS, a port is taken
  70   something is broken
  75   not now: try again later
  77   no token, a wrong one, or one that may not do this
  130  ended by Ctrl-C";

impl Kind {
    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Refused => 65,
            Self::NotFound => 66,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Retry => 75,
            Self::Denied => 77,
            Self::Interrupted => 130,
            Self::NobodyReads => 0,
        }
    }

    /// The word for programs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::Retry => "retry",
            Self::Denied => "denied",
            Self::Interrupted => "interrupted",
            Self::NobodyReads => "nobody_reads",
        }
    }

    /// The class of a failure that the gateway or a job reports.
    pub(crate) const fn of(error: &ErrorCode, retriable: bool) -> Self {
        match error {
            ErrorCode::InvalidParams
            | ErrorCode::DeadlineUnmet
            | ErrorCode::Conflict
            | ErrorCode::PayloadTooLarge
            | ErrorCode::MethodNotAllowed => Self::Refused,
            ErrorCode::NotFound | ErrorCode::Gone => Self::NotFound,
            ErrorCode::MissingToken | ErrorCode::BadToken | ErrorCode::Forbidden => Self::Denied,
            ErrorCode::AdmissionReject
            | ErrorCode::QueueFullDropLru
            | ErrorCode::PoolUnready
            | ErrorCode::PoolUnavailable
            | ErrorCode::ReplicaExhausted
            | ErrorCode::DecodeTimeout
            | ErrorCode::WorkerReset
            | ErrorCode::Internal
            | ErrorCode::Unknown => {
                if retriable {
                    Self::Retry
                } else {
                    Self::Internal
                }
            }
        }
    }
}

/// A failed command: what went wrong, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) next: Option<String>,
    /// The gateway's own word for it.
    pub(crate) code: Option<ErrorCode>,
    /// How long the gateway wants us to wait before another try.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// A failure with a sentence.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            next: None,
            code: None,
            retry_after: None,
        }
    }

    /// What the gateway or a job answered.
    pub(crate) fn remote(error: &ErrorBody) -> Self {
        let kind = Kind::of(&error.code, error.is_retriable());
        let failure = Self {
            code: Some(error.code),
            retry_after: error.retry_after_ms.map(Duration::from_millis),
            ..Self::new(kind, error.message.clone())
        };
        match kind {
            Kind::Denied => {
                failure.then("give the gateway's token with --token or in ORCHION_TOKEN")
            }
            Kind::Usage
            | Kind::Refused
            | Kind::NotFound
            | Kind::Unavailable
            | Kind::Internal
            | Kind::Retry
            | Kind::Interrupted
            | Kind::NobodyReads => failure,
        }
    }

    /// Adds what to do next.
    pub(crate) fn then(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Whether the same call may succeed when it is made again.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Retry)
    }

    /// Whether there is nothing to say: the user knows already.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty() || matches!(self.kind, Kind::NobodyReads | Kind::Interrupted)
    }

    /// The exit code of the program.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }

    /// The failure as one JSON document.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": {
                "kind": self.kind.as_str(),
                "code": self.code,
                "message": self.message,
                "next": self.next,
                "exit_code": self.kind.code(),
            }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.next {
            Some(next) => write!(f, "\n  {next}"),
            None => Ok(()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Kind::NobodyReads, "nobody reads the output");
        }
        Self::new(Kind::Internal, error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Kind::Internal, format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_failure_has_its_code() {
        let code = |code: ErrorCode| Kind::of(&code, code.retriable()).code();
        assert_eq!(code(ErrorCode::InvalidParams), 65);
        assert_eq!(code(ErrorCode::NotFound), 66);
        assert_eq!(code(ErrorCode::PoolUnready), 75);
        assert_eq!(code(ErrorCode::BadToken), 77);
        assert_eq!(code(ErrorCode::Internal), 70);
        for known in ErrorCode::ALL {
            let line = format!("\n  {} ", code(*known));
            assert!(EXIT_CODES.contains(&line), "{known} gives {line}");
        }
    }

    #[test]
    fn a_refused_token_says_where_one_is_given() {
        let failure = Failure::remote(&ErrorBody::new(ErrorCode::MissingToken, "no token"));
        assert_eq!(
            failure.to_string(),
            "no token\n  give the gateway's token with --token or in ORCHION_TOKEN"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let error = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::from(error).kind.code(), 0);
    }
}
