//! A machine of the product inside a state of the model.

use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// One of the product's own machines. It is told apart from others by what its
/// `Debug` shows, which is all of it: the machines are plain data.
pub(crate) struct Real<T> {
    print: u64,
    machine: Arc<T>,
}

impl<T: Clone + Debug> Real<T> {
    pub(crate) fn new(machine: T) -> Self {
        Self {
            print: print(&machine),
            machine: Arc::new(machine),
        }
    }

    pub(crate) fn get(&self) -> &T {
        &self.machine
    }

    /// Lets something happen to it.
    pub(crate) fn with<R>(&mut self, happen: impl FnOnce(&mut T) -> R) -> R {
        let machine = Arc::make_mut(&mut self.machine);
        let came_of_it = happen(machine);
        self.print = print(machine);
        came_of_it
    }
}

impl<T> Clone for Real<T> {
    fn clone(&self) -> Self {
        Self {
            print: self.print,
            machine: self.machine.clone(),
        }
    }
}

impl<T> PartialEq for Real<T> {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl<T> Eq for Real<T> {}

impl<T> Hash for Real<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

impl<T: Debug> Debug for Real<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.machine.fmt(f)
    }
}

struct Hashing(DefaultHasher);

impl Write for Hashing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn print(value: &impl Debug) -> u64 {
    let mut hashing = Hashing(DefaultHasher::new());
    // Writing into a hash cannot fail.
    let _ = write!(hashing, "{value:?}");
    hashing.0.finish()
}
