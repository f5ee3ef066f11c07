//! Loopback TCP round trips.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::Result;
use orchion_bench::Hist;
use orchion_testkit::clock::mono_ns;

/// Sends `bytes` to and fro `count` times, after a tenth as many to warm up.
pub(super) fn measure(count: u64, bytes: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || -> Result<()> {
        let (mut peer, _) = listener.accept()?;
        peer.set_nodelay(true)?;
        let mut buffer = vec![0; bytes];
        loop {
            peer.read_exact(&mut buffer)?;
            peer.write_all(&buffer)?;
        }
    });
    let mut conn = TcpStream::connect(addr)?;
    conn.set_nodelay(true)?;
    let mut buffer = vec![7; bytes];
    let mut hist = Hist::default();
    for i in 0..count + count / 10 {
        let start = mono_ns();
        conn.write_all(&buffer)?;
        conn.read_exact(&mut buffer)?;
        if i >= count / 10 {
            hist.record(mono_ns() - start);
        }
    }
    super::show(&format!("loopback TCP round trip, {bytes} B"), &hist)
}
