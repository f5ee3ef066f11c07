//! The embedded starter engine.
pub mod digest;
pub mod model;
pub mod synth;
pub mod tokenizer;
