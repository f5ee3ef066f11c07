//! Typed subjects: one pattern, and from it every form.

use crate::id::{InstanceId, JobId, NodeId, ReaderId};
use crate::log::Level;
use std::fmt::{Display, Write};
use std::marker::PhantomData;
use std::str::FromStr;

/// Something that may stand as one token of a subject.
pub trait Token: Display + FromStr {}

impl Token for NodeId {}
impl Token for InstanceId {}
impl Token for ReaderId {}
impl Token for JobId {}
impl Token for Level {}
impl Token for crate::log::ServiceName {}

/// What fills the holes of a pattern, in order.
pub trait Address: Sized {
    /// Number of holes.
    const ARITY: usize;
    /// Writes the token for hole `n`.
    fn write(&self, n: usize, out: &mut String);
    /// Reads the address back from the tokens found in the holes.
    fn parse(tokens: &[&str]) -> Option<Self>;
}

fn push(token: &impl Display, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{token}");
}

impl Address for () {
    const ARITY: usize = 0;
    fn write(&self, _: usize, _: &mut String) {}
    fn parse(tokens: &[&str]) -> Option<Self> {
        tokens.is_empty().then_some(())
    }
}

impl<A: Token> Address for A {
    const ARITY: usize = 1;
    fn write(&self, _: usize, out: &mut String) {
        push(self, out);
    }
    fn parse(tokens: &[&str]) -> Option<Self> {
        match tokens {
            [a] => a.parse().ok(),
            _ => None,
        }
    }
}

impl<A: Token, B: Token> Address for (A, B) {
    const ARITY: usize = 2;
    fn write(&self, n: usize, out: &mut String) {
        match n {
            0 => push(&self.0, out),
            _ => push(&self.1, out),
        }
    }
    fn parse(tokens: &[&str]) -> Option<Self> {
        match tokens {
            [a, b] => Some((a.parse().ok()?, b.parse().ok()?)),
            _ => None,
        }
    }
}

impl<A: Token, B: Token, C: Token> Address for (A, B, C) {
    const ARITY: usize = 3;
    fn write(&self, n: usize, out: &mut String) {
        match n {
            0 => push(&self.0, out),
            1 => push(&self.1, out),
            _ => push(&self.2, out),
        }
    }
    fn parse(tokens: &[&str]) -> Option<Self> {
        match tokens {
            [a, b, c] => Some((a.parse().ok()?, b.parse().ok()?, c.parse().ok()?)),
            _ => None,
        }
    }
}

/// An address pattern such as `orchion.evt.node.heartbeat.{node}`.
#[derive(Debug)]
pub struct Pattern<A> {
    text: &'static str,
    address: PhantomData<fn() -> A>,
}

impl<A> Clone for Pattern<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Pattern<A> {}

impl<A> Pattern<A> {
    const fn new(text: &'static str) -> Self {
        Self {
            text,
            address: PhantomData,
        }
    }

    /// The pattern as written, holes included.
    #[must_use]
    pub const fn text(&self) -> &'static str {
        self.text
    }
}

impl<A: Address> Pattern<A> {
    fn to(self, address: &A) -> String {
        let mut out = String::with_capacity(self.text.len() + 48);
        let mut hole = 0;
        for token in self.text.split('.') {
            if !out.is_empty() {
                out.push('.');
            }
            if token.starts_with('{') {
                address.write(hole, &mut out);
                hole += 1;
            } else {
                out.push_str(token);
            }
        }
        out
    }

    fn any(self) -> String {
        let wild = |token: &'static str| if token.starts_with('{') { "*" } else { token };
        self.text.split('.').map(wild).collect::<Vec<_>>().join(".")
    }

    fn parse(self, subject: &str) -> Option<A> {
        let mut found = [""; 4];
        let mut holes = 0;
        let mut actual = subject.split('.');
        for expected in self.text.split('.') {
            let token = actual.next()?;
            if expected.starts_with('{') {
                *found.get_mut(holes)? = token;
                holes += 1;
            } else if token != expected {
                return None;
            }
        }
        actual.next().is_none().then_some(())?;
        A::parse(&found[..holes])
    }
}

/// A subject that carries payloads of type `P` to addresses of type `A`.
#[derive(Debug)]
pub struct Subject<A, P> {
    pattern: Pattern<A>,
    payload: PhantomData<fn() -> P>,
}

impl<A, P> Clone for Subject<A, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, P> Copy for Subject<A, P> {}

impl<A, P> Subject<A, P> {
    /// Declares a subject; holes are written `{name}`.
    #[must_use]
    pub const fn new(pattern: &'static str) -> Self {
        Self {
            pattern: Pattern::new(pattern),
            payload: PhantomData,
        }
    }

    /// The pattern as written.
    #[must_use]
    pub const fn pattern(&self) -> &'static str {
        self.pattern.text()
    }
}

impl<A: Address, P> Subject<A, P> {
    /// The subject of one address.
    #[must_use]
    pub fn to(&self, address: &A) -> String {
        self.pattern.to(address)
    }

    /// The wildcard that matches every address.
    #[must_use]
    pub fn any(&self) -> String {
        self.pattern.any()
    }

    /// The address of a concrete subject; `None` when it is not of this pattern.
    #[must_use]
    pub fn parse(&self, subject: &str) -> Option<A> {
        self.pattern.parse(subject)
    }
}

impl<A: Token, B: Token, P> Subject<(A, B), P> {
    /// The wildcard that matches every address that begins with `first`.
    #[must_use]
    pub fn all_of(&self, first: &A) -> String {
        let any = self.any();
        any.replacen('*', &first.to_string(), 1)
    }
}

/// A question `Q` answered by `R`: a request on the bus.
#[derive(Debug)]
pub struct Rpc<A, Q, R> {
    pattern: Pattern<A>,
    payload: PhantomData<fn() -> (Q, R)>,
}

impl<A, Q, R> Clone for Rpc<A, Q, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, Q, R> Copy for Rpc<A, Q, R> {}

impl<A, Q, R> Rpc<A, Q, R> {
    /// Declares a request subject; holes are written `{name}`.
    #[must_use]
    pub const fn new(pattern: &'static str) -> Self {
        Self {
            pattern: Pattern::new(pattern),
            payload: PhantomData,
        }
    }

    /// The pattern as written.
    #[must_use]
    pub const fn pattern(&self) -> &'static str {
        self.pattern.text()
    }

    /// The verb: the last fixed token, used as endpoint name in discovery.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        let fixed = |token: &&str| !token.starts_with('{');
        self.pattern
            .text()
            .split('.')
            .rfind(fixed)
            .unwrap_or_default()
    }
}

impl<A: Address, Q, R> Rpc<A, Q, R> {
    /// The subject of one address.
    #[must_use]
    pub fn to(&self, address: &A) -> String {
        self.pattern.to(address)
    }

    /// The wildcard that matches every address.
    #[must_use]
    pub fn any(&self) -> String {
        self.pattern.any()
    }

    /// The address of a concrete subject.
    #[must_use]
    pub fn parse(&self, subject: &str) -> Option<A> {
        self.pattern.parse(subject)
    }
}
