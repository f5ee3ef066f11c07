//! A TCP proxy whose cable can be cut, stalled or made slow.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::background::Background;

/// Chunks under way in one direction before the sender has to wait.
const IN_FLIGHT: usize = 256;

/// Stands between clients and one server, in this process.
///
/// Stopped on drop, and all its connections closed.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    cable: watch::Sender<Cable>,
    _background: Background,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cable {
    is_cut: bool,
    is_stalled: bool,
    delay: Duration,
    /// Connections of an earlier generation are closed.
    generation: u64,
}

impl Proxy {
    /// Listens on a free loopback port and passes everything to `target`.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start(target: SocketAddr) -> Self {
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on a free port");
        listener.set_nonblocking(true).expect("make non-blocking");
        let addr = listener.local_addr().expect("read the port");
        let (cable, state) = watch::channel(Cable::default());
        let background = Background::start("proxy", move || async move {
            let listener = TcpListener::from_std(listener).expect("register the listener");
            accept(listener, target, state).await;
        });
        Self {
            addr,
            cable,
            _background: background,
        }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes all connections, and new ones at once, until [`Proxy::resume`].
    pub fn cut(&self) {
        self.change(|cable| {
            cable.is_cut = true;
            cable.generation += 1;
        });
    }

    /// Closes the connections that are open now; new ones are welcome.
    pub fn drop_connections(&self) {
        self.change(|cable| cable.generation += 1);
    }

    /// Keeps all connections open, old and new, and passes nothing, not even the
    /// end of a connection, until [`Proxy::resume`]: a pulled cable.
    pub fn stall(&self) {
        self.change(|cable| cable.is_stalled = true);
    }

    /// Ends a cut or a stall; what was held back by a stall is passed on.
    pub fn resume(&self) {
        self.change(|cable| {
            cable.is_cut = false;
            cable.is_stalled = false;
        });
    }

    /// Holds back everything that arrives from now on for `delay`, each way.
    pub fn delay(&self, delay: Duration) {
        self.change(|cable| cable.delay = delay);
    }

    fn change(&self, change: impl FnOnce(&mut Cable)) {
        self.cable.send_modify(change);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, cable: watch::Receiver<Cable>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if !cable.borrow().is_cut {
            connections.spawn(connection(client, target, cable.clone()));
        }
    }
}

async fn connection(client: TcpStream, target: SocketAddr, mut cable: watch::Receiver<Cable>) {
    let generation = cable.borrow().generation;
    let passing = pass(client, target, cable.clone());
    tokio::select! {
        // A broken connection is what this is for.
        _ = passing => {}
        _ = cable.wait_for(|cable| cable.generation != generation) => {}
    }
}

async fn pass(
    client: TcpStream,
    target: SocketAddr,
    cable: watch::Receiver<Cable>,
) -> io::Result<()> {
    flowing(&mut cable.clone()).await;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = pipe(from_client, to_server, cable.clone()) => ended,
        ended = pipe(from_server, to_client, cable.clone()) => ended,
    }
}

/// Passes one direction until it ends.
async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut cable: watch::Receiver<Cable>,
) -> io::Result<()> {
    let (chunks, mut arrived) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let delay_of = cable.clone();
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let size = from.read(&mut buffer).await.unwrap_or(0);
            let due = Instant::now() + delay_of.borrow().delay;
            if size == 0 || chunks.send((due, buffer[..size].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = arrived.recv().await {
            tokio::time::sleep_until(due).await;
            flowing(&mut cable).await;
            to.write_all(&chunk).await?;
        }
        // The end of the connection does not pass a stalled cable either.
        flowing(&mut cable).await;
        to.shutdown().await
    };
    let ((), written) = tokio::join!(read, write);
    written
}

/// Waits while the cable is stalled.
async fn flowing(cable: &mut watch::Receiver<Cable>) {
    // An error means that the proxy is being dropped.
    let _ = cable.wait_for(|cable| !cable.is_stalled).await;
}
