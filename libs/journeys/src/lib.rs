//! What people do with Orchion, in their words, against the whole stack.
//!
//! The journeys stand in `features/`; each scenario carries the ids of the
//! requirements that it shows. `tests/` holds the steps: processes as they are
//! shipped, a real nats-server, mock engines. A step that nobody wrote, or that
//! is skipped, fails its feature.
