//! What will run, decided before anything is started: ports, users, the
//! configuration of every service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use orchion_nats_server::{Access, Passwords};
use orchion_service::Settings;
use orchion_service::config::{self, FlagValue, Sources};
use orchion_service::telemetry;

use super::data::DataDir;
use crate::args::Up;
use crate::exit::{Failure, Kind, Result};
use crate::http::Base;
use crate::join::Join;

/// Everything that `orchion up` is going to do.
pub(super) struct Plan {
    /// Where NATS listens.
    pub(super) nats: SocketAddr,
    /// Who may connect to it.
    pub(super) access: Access,
    pub(super) registry: orchion_registry::Config,
    pub(super) scheduler: orchion_scheduler::Config,
    pub(super) gateway: orchion_gateway::Config,
    pub(super) log_sink: orchion_log_sink::Config,
    pub(super) agents: Vec<orchion_node_agent::Config>,
    pub(super) telemetry: telemetry::Settings,
    /// Whether every record is shown on the terminal.
    pub(super) verbose: bool,
    /// The gateway, as this machine reaches it.
    pub(super) base: Base,
    /// The token it wants, if any.
    pub(super) token: Option<String>,
    /// What another host needs.
    pub(super) join: Option<Join>,
}

impl Plan {
    /// Decides, and says at once what cannot work.
    pub(super) fn new(options: &Up, data: &DataDir) -> Result<Self> {
        let bind = if options.lan {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        };
        let nats = free(
            SocketAddr::new(bind, options.nats_port),
            "NATS",
            "--nats-port",
        )?;
        let passwords = options
            .lan
            .then(|| Passwords::load_or_generate(&data.nats()))
            .transpose()
            .map_err(anyhow::Error::new)?;
        let flags = Flags {
            url: format!("nats://127.0.0.1:{}", nats.port()),
            passwords: passwords.as_ref(),
        };
        let gateway = gateway(options, data, &flags)?;
        let port = gateway.gateway.http_port;
        let is_any = gateway
            .gateway
            .address()
            .is_ok_and(|at| at.ip().is_unspecified());
        let host = if is_any {
            "127.0.0.1"
        } else {
            &gateway.gateway.bind
        };
        let base = Base::parse(&format!("http://{}:{port}", bracketed(host)))
            .map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
        let token = gateway
            .gateway
            .tokens
            .first()
            .map(|token| token.expose().to_owned());
        let join = passwords.as_ref().map(|passwords| Join {
            host: options.advertise.clone().unwrap_or_else(own_address),
            port: nats.port(),
            user: "agent".to_owned(),
            password: passwords.agent.clone(),
        });
        Ok(Self {
            nats,
            registry: load(flags.registry())?,
            scheduler: load(flags.service())?,
            log_sink: load(flags.service())?,
            agents: (1..=options.agents)
                .map(|number| load(flags.agent(data, number)))
                .collect::<Result<_>>()?,
            telemetry: gateway.telemetry.clone(),
            gateway,
            access: passwords.map_or(Access::Loopback, Access::Network),
            verbose: options.verbose,
            base,
            token,
            join,
        })
    }
}

impl Plan {
    /// Where NATS is: for other hosts when it is open to them.
    pub(super) fn nats_url(&self) -> String {
        match &self.join {
            Some(join) => join.nats_url(),
            None => format!("nats://{}", self.nats),
        }
    }
}

fn gateway(options: &Up, data: &DataDir, flags: &Flags<'_>) -> Result<orchion_gateway::Config> {
    let mut given = flags.service();
    if let Some(port) = options.http_port {
        given.push(flag("http-port", "gateway.http_port", port.to_string()));
    }
    if let Some(bind) = &options.bind {
        given.push(flag("bind", "gateway.bind", bind.clone()));
        if opens(bind) {
            given.push(flag("bind", "gateway.tokens", data.gateway_token()?));
        }
    }
    let mut gateway: orchion_gateway::Config = load(given)?;
    let address = gateway
        .gateway
        .address()
        .map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    gateway.gateway.http_port = free(address, "HTTP", "--http-port")?.port();
    Ok(gateway)
}

/// Whether an address can be reached from other machines.
fn opens(bind: &str) -> bool {
    bind != "localhost" && !bind.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The settings that are not the owner's to choose here.
struct Flags<'a> {
    url: String,
    passwords: Option<&'a Passwords>,
}

impl Flags<'_> {
    fn service(&self) -> Vec<FlagValue> {
        let password = self.passwords.map(|all| all.service.as_str());
        self.user("service", password)
    }

    /// The registry also hears who connects and who is gone.
    fn registry(&self) -> Vec<FlagValue> {
        let password = self.passwords.map_or("", |all| all.liveness.as_str());
        let mut flags = self.service();
        flags.push(flag("nats-port", "nats.system_user", "liveness".to_owned()));
        flags.push(flag(
            "nats-port",
            "nats.system_password",
            password.to_owned(),
        ));
        flags
    }

    fn agent(&self, data: &DataDir, number: u32) -> Vec<FlagValue> {
        let password = self.passwords.map(|all| all.agent.as_str());
        let mut flags = self.user("agent", password);
        let folder = data.agent(number).to_string_lossy().into_owned();
        flags.push(flag("agents", "node-agent.data_dir", folder));
        flags
    }

    /// On loopback a role is taken without a password.
    fn user(&self, user: &str, password: Option<&str>) -> Vec<FlagValue> {
        vec![
            flag("nats-port", "nats.url", self.url.clone()),
            flag("nats-port", "nats.user", user.to_owned()),
            flag(
                "nats-port",
                "nats.password",
                password.unwrap_or_default().to_owned(),
            ),
        ]
    }
}

fn flag(name: &str, key: &str, value: String) -> FlagValue {
    FlagValue {
        name: name.to_owned(),
        key: key.to_owned(),
        value,
    }
}

fn load<C: Settings>(flags: Vec<FlagValue>) -> Result<C> {
    let sources = Sources {
        flags,
        ..Sources::from_process()
    };
    config::load(&sources).map_err(|problems| {
        Failure::new(
            Kind::Usage,
            format!(
                "the configuration is not right:\n  {}",
                problems.0.join("\n  ")
            ),
        )
    })
}

/// The address with its port, a free one for 0; an error names who to ask.
fn free(address: SocketAddr, what: &str, flag: &str) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address).map_err(|error| {
        let port = address.port();
        let failure = if error.kind() == std::io::ErrorKind::AddrInUse {
            Failure::new(
                Kind::Unavailable,
                format!("port {port}, wanted for {what}, is taken by another program"),
            )
        } else {
            Failure::new(
                Kind::Unavailable,
                format!("cannot listen on {address}: {error}"),
            )
        };
        failure.then(format!(
            "choose another port with {flag}, or end that program"
        ))
    })?;
    Ok(listener.local_addr()?)
}

/// The address by which other hosts most likely reach this one: that of the
/// interface towards the outside. Nothing is sent.
fn own_address() -> String {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("198.51.100.1:9")?;
        socket.local_addr()
    });
    found.map_or_else(
        |_| "127.0.0.1".to_owned(),
        |address| address.ip().to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_itself_and_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let failure = free(address, "HTTP", "--http-port").unwrap_err();
        assert_eq!(failure.kind, Kind::Unavailable);
        let text = failure.to_string();
        assert!(
            text.contains(&address.port().to_string()) && text.contains("--http-port"),
            "{text}"
        );
    }

    #[test]
    fn port_0_becomes_a_free_one() {
        let address = free("127.0.0.1:0".parse().unwrap(), "HTTP", "--http-port").unwrap();
        assert_ne!(address.port(), 0);
    }

    #[test]
    fn only_loopback_needs_no_token() {
        assert!(!opens("127.0.0.1") && !opens("::1") && !opens("localhost"));
        assert!(opens("0.0.0.0") && opens("192.168.1.2") && opens("::"));
    }
}
