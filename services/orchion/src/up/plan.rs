//! What will run, decided before anything is started: ports, users, the
//! configuration of every service.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use orchion_nats_server::{Access, Passwords};
use orchion_service::config;
use orchion_service::telemetry;

use super::data::{DataDir, gateway_token};
use super::services::{Given, Services};
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
        let services = Services::load(&Given {
            options,
            nats_port: nats.port(),
            passwords: passwords.as_ref(),
            token: is_open(options).then(|| data.gateway_token()).transpose()?,
            root: data.root().to_owned(),
        })?;
        let gateway = listening(services.gateway)?;
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
            registry: services.registry,
            scheduler: services.scheduler,
            log_sink: services.log_sink,
            agents: services.agents,
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

/// What `--print-config` shows: nothing is started, made or reserved for it.
pub(super) fn configuration(options: &Up) -> Result<String> {
    // Shown masked, as it will be.
    let token = is_open(options).then(|| gateway_token().unwrap_or_else(|| "new".to_owned()));
    let services = Services::load(&Given {
        options,
        nats_port: options.nats_port,
        passwords: None,
        token,
        root: config::data_dir(),
    })?;
    services.to_toml()
}

/// The gateway with the port that it will have.
fn listening(mut gateway: orchion_gateway::Config) -> Result<orchion_gateway::Config> {
    let address = gateway
        .gateway
        .address()
        .map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    gateway.gateway.http_port = free(address, "HTTP", "--http-port")?.port();
    Ok(gateway)
}

/// Whether the flags open the gateway to other machines.
fn is_open(options: &Up) -> bool {
    options.bind.as_deref().is_some_and(opens)
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

/// The address with its port, a free one for 0; an error names who to ask.
fn free(address: SocketAddr, what: &str, flag: &str) -> Result<SocketAddr> {
    let listener =
        TcpListener::bind(address).map_err(|error| cannot_listen(address, &error, what, flag))?;
    Ok(listener.local_addr()?)
}

fn cannot_listen(address: SocketAddr, error: &Error, what: &str, flag: &str) -> Failure {
    let (ip, port) = (address.ip(), address.port());
    if error.kind() == ErrorKind::AddrInUse {
        let text = format!("port {port}, wanted for {what}, is taken by another program");
        return Failure::new(Kind::Unavailable, text).then(format!(
            "choose another port with {flag}, or end that program"
        ));
    }
    if error.kind() == ErrorKind::AddrNotAvailable {
        let text = format!("cannot listen on {ip}: no interface has this address");
        return Failure::new(Kind::Usage, text)
            .then("correct --bind, or gateway.bind in orchion.toml");
    }
    let text = format!("cannot listen on {address} for {what}: {error}");
    Failure::new(Kind::Unavailable, text).then(format!("choose another port with {flag}"))
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
    fn an_address_of_nobody_is_the_owner_s_to_correct() {
        let address = "192.0.2.1:0".parse().unwrap();
        let failure = free(address, "HTTP", "--http-port").unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        let text = failure.to_string();
        assert!(
            text.contains("no interface has this address") && text.contains("correct --bind"),
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
