//! Ports that nobody else takes.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the range from which systems take the local port of an outgoing
/// connection. A client that keeps dialling a dead port of that range would one
/// day be connected to itself, and the server could not come back.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// Locks held until this process ends.
static LEASES: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Returns a loopback port that nobody listens on and that no other process
/// gets from this function while this one lives, so that a server may be stopped
/// and started again on it.
///
/// # Panics
///
/// When a hundred tries found no free port.
pub fn free_port() -> u16 {
    let folder = lease_folder();
    let span = u64::from(RANGE.end - RANGE.start);
    let mut guess = seed();
    for _ in 0..100 {
        guess = guess
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let offset = u16::try_from((guess >> 33) % span).expect("smaller than the range");
        let port = RANGE.start + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            continue;
        }
        let lock = File::create(folder.join(format!("{port}.lock"))).expect("create a port lock");
        match lock.try_lock() {
            Ok(()) => {
                LEASES.lock().expect("no panic under the lock").push(lock);
                return port;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => panic!("lock port {port}: {error}"),
        }
    }
    panic!("no free port between {} and {}", RANGE.start, RANGE.end);
}

fn lease_folder() -> PathBuf {
    let user = nix::unistd::Uid::current();
    let folder = std::env::temp_dir().join(format!("orchion-ports-{user}"));
    std::fs::create_dir_all(&folder).expect("create the folder of port locks");
    folder
}

/// Differs between processes and calls; that is all it is for.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = now.map_or(0, |since| u64::from(since.subsec_nanos()));
    (u64::from(std::process::id()) << 32) ^ nanos
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
    }
}
