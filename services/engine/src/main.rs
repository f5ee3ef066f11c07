//! The program `orchion-engine`.

fn main() {}
