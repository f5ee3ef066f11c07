//! The verifiable answer.
//!
//! A test writes a marker in the prompt; it survives whatever keeps the text of
//! messages. The mock engine answers with tokens that name the request they
//! belong to, their index, when they left the engine and which engine wrote
//! them. A crossed, lost, doubled or re-ordered token cannot go unseen.
//!
//! ```text
//! marker: orchion-bench nonce=1a2b3c4d tokens=64 ttft_us=0 itl_us=20000 flush=1 end
//! token:  1a2b3c4d.12.kf12oi8z.a   (nonce, index, stamp in base 36, engine)
//! ```
//!
//! The first token has a fifth field: when the request reached the engine. Each
//! token ends with a space.

mod ask;
mod fault;
mod verify;

pub use ask::{Ask, fresh_nonce, resume_point};
pub use fault::{Continuation, Fault, FaultKind};
pub use verify::{Check, Flaw, Seen, Verifier};

/// Appends token `index` of answer `nonce` to `out`. Stamps are microseconds on
/// the clock of [`crate::clock`].
pub fn push_token(
    out: &mut Vec<u8>,
    nonce: u32,
    index: u32,
    now_us: u64,
    engine: &str,
    arrived_us: Option<u64>,
) {
    out.extend_from_slice(&hex8(nonce));
    out.push(b'.');
    push_radix(out, u64::from(index), 10);
    out.push(b'.');
    push_radix(out, now_us, 36);
    out.push(b'.');
    out.extend_from_slice(engine.as_bytes());
    if let Some(arrived) = arrived_us {
        out.push(b'.');
        push_radix(out, arrived, 36);
    }
    out.push(b' ');
}

fn hex8(value: u32) -> [u8; 8] {
    std::array::from_fn(|at| b"0123456789abcdef"[(value >> (28 - 4 * at)) as usize & 15])
}

fn push_radix(out: &mut Vec<u8>, mut value: u64, radix: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdefghijklmnopqrstuvwxyz"[(value % radix) as usize];
        value /= radix;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
