//! The real `nats-server` that Orchion runs beside itself: where its binary is
//! found, how it is fetched once, and the configuration it is started with.
//!
//! Nothing here starts or supervises a process, and nothing speaks NATS.

mod config;
mod error;
mod fetch;
mod locate;
mod passwords;

pub use config::{Access, arguments, install};
pub use error::Error;
pub use fetch::fetch;
pub use locate::{Found, Search, Source};
pub use passwords::Passwords;

/// The release that is fetched where none is installed.
pub const VERSION: &str = "2.15.1";

/// The oldest release whose key-value buckets expire single keys, as leases need.
pub const OLDEST: (u32, u32) = (2, 11);

/// Finds `nats-server`, fetching it when it is nowhere or its copy is damaged.
///
/// # Errors
/// What [`Search::locate`] and [`fetch`] refuse; each message says what to do.
pub fn locate_or_fetch(search: &Search) -> Result<Found, Error> {
    match search.locate() {
        Ok(Some(found)) => Ok(found),
        Ok(None) | Err(Error::Damaged { .. }) => fetch(search),
        Err(error) => Err(error),
    }
}
