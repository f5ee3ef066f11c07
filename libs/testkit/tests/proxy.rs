//! A cable that can be pulled.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use orchion_testkit::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

/// Sends back what it gets. Stopped on drop.
struct Echo {
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut tcp, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = tcp.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Self {
            addr,
            _tasks: tasks,
        }
    }
}

async fn echoes(tcp: &mut TcpStream, byte: u8) -> bool {
    let mut back = [0];
    tcp.write_all(&[byte]).await.is_ok()
        && timeout(SOON, tcp.read_exact(&mut back))
            .await
            .unwrap()
            .is_ok()
        && back == [byte]
}

#[tokio::test]
async fn passes_both_ways() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.addr);
    let mut tcp = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(echoes(&mut tcp, 1).await);
    assert!(echoes(&mut tcp, 2).await);
}

#[tokio::test]
async fn a_stall_passes_nothing_and_loses_nothing() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.addr);
    let mut tcp = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(echoes(&mut tcp, 1).await);
    proxy.stall();
    tcp.write_all(&[7]).await.unwrap();
    let mut byte = [0];
    assert!(timeout(SHORT, tcp.read_exact(&mut byte)).await.is_err());
    proxy.resume();
    timeout(SOON, tcp.read_exact(&mut byte))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(byte, [7]);
}

#[tokio::test]
async fn a_stall_hides_the_end_of_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap());
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(&[1]).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), 1);
    proxy.stall();
    drop(server);
    assert!(timeout(SHORT, client.read_u8()).await.is_err());
    proxy.resume();
    assert!(timeout(SOON, client.read_u8()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_cut_closes_old_and_new_connections_until_it_is_mended() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.addr);
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(echoes(&mut old, 1).await);
    proxy.cut();
    assert!(!echoes(&mut old, 2).await);
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(!echoes(&mut new, 3).await);
    proxy.resume();
    let mut mended = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(echoes(&mut mended, 4).await);
}

#[tokio::test]
async fn a_delay_holds_back_each_way() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.addr);
    let mut tcp = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.delay(Duration::from_millis(60));
    let start = Instant::now();
    assert!(echoes(&mut tcp, 1).await);
    assert!(start.elapsed() >= Duration::from_millis(120));
}
