//! Lives of nodes, told in milliseconds of no real time.

mod membership;
mod presence;
mod world;
