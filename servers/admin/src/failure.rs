//! Why a command failed, and the exit code that says so.

use alloc::string::String;
use core::fmt;

use proto::CallError;
use proto::console::ConsoleError;
use proto::root::RootError;

/// Exit code of a command that did what it was asked to.
pub const SUCCESS: u8 = 0;
/// Exit code of a command that could not do it.
pub const FAILURE: u8 = 1;
/// Exit code of a command that was asked in the wrong way.
pub const USAGE: u8 = 2;
/// Exit code of a command that does not exist.
pub const NOT_FOUND: u8 = 127;
/// Exit code of a command that was interrupted: 128 and the number of SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The arguments are wrong.
    Usage(String),
    /// It cannot be done; the text says why.
    Failed(String),
    /// Root refused or is gone.
    Root(CallError<RootError>),
    /// The console refused or is gone.
    Console(CallError<ConsoleError>),
    /// The operator interrupted it.
    Interrupted,
}

impl Failure {
    /// The exit code.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Failed(_) | Self::Root(_) | Self::Console(_) => FAILURE,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

impl From<CallError<RootError>> for Failure {
    fn from(error: CallError<RootError>) -> Self {
        Self::Root(error)
    }
}

impl From<CallError<ConsoleError>> for Failure {
    fn from(error: CallError<ConsoleError>) -> Self {
        Self::Console(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => formatter.write_str(text),
            Self::Root(error) => formatter.write_str(root_error(*error)),
            Self::Console(CallError::Server(ConsoleError::NotFound)) => {
                formatter.write_str("no such console")
            }
            Self::Console(CallError::Malformed) => {
                formatter.write_str("the console did not understand the request")
            }
            Self::Console(CallError::PeerDied) => formatter.write_str("the console was restarted"),
            Self::Interrupted => formatter.write_str("interrupted"),
        }
    }
}

fn root_error(error: CallError<RootError>) -> &'static str {
    match error {
        CallError::Malformed => "root did not understand the request",
        CallError::PeerDied => "root died",
        CallError::Server(error) => match error {
            RootError::NotAllowed => "not allowed",
            RootError::NotFound => "no such program",
            RootError::AlreadyRunning => "it is already running",
            RootError::NotRunning => "it is not running",
            RootError::BadSize => "the memory or the arguments are more than is allowed",
            RootError::OutOfMemory => "not enough memory",
            RootError::BadImage => "the program's image is damaged",
            RootError::BadSignal => "the program does not take that signal",
            RootError::Unsupported => "this machine cannot do that",
        },
    }
}
