//! How things look: tables, ages, sizes.

pub(crate) mod explain;
pub(crate) mod jobs;
pub(crate) mod nodes;
pub(crate) mod table;
pub(crate) mod units;
