//! Why a run ended, in words for a person.

use std::fmt;
use std::io;

use pool::error::Error;
use pool::spa::ImportError;

/// The ways a run can fail.
pub enum Failure {
    /// The arguments make no sense; the usage is printed too.
    Usage(String),
    /// A file of the host.
    Host(String, io::Error),
    /// Standard output.
    Output(io::Error),
    /// The pool with this name does not import.
    Import(String, ImportError),
    /// The pool refused something, with what it was about.
    Pool(String, Error),
    /// Explained in full by the text.
    Told(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(reason) | Failure::Told(reason) => formatter.write_str(reason),
            Failure::Host(path, error) => write!(formatter, "{path}: {error}"),
            Failure::Output(error) => write!(formatter, "writing the output: {error}"),
            Failure::Import(pool, reason) => write!(formatter, "cannot import '{pool}': {reason}"),
            Failure::Pool(what, error) => write!(formatter, "{what}: {error}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// Says what a pool's error was about.
pub trait About<T> {
    /// Names the thing.
    fn about(self, what: &str) -> Result<T, Failure>;
}

impl<T> About<T> for Result<T, Error> {
    fn about(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Pool(what.into(), error))
    }
}
