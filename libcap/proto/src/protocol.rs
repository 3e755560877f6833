//! What every protocol is made of, and the macro that declares one.
//!
//! Owns the traits that tie an operation's number, its request type and its reply type together,
//! and [`protocol!`](crate::protocol), from which client, server trait and dispatcher follow. How
//! messages travel is a [`Transport`]'s business: `libcap` has the kernel's, [`crate::host`] has
//! one inside a process.

use core::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{Malformed, Message, reply_label};
use crate::start::CapKind;

/// Why a call gave no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError<E> {
    /// The server refused; the protocol says what that means.
    Server(E),
    /// One side spoke nonsense: the request or the reply was not in the protocol's form, or was
    /// longer than a message.
    Malformed,
    /// The server died before it replied. Nothing is known about the request; open again and
    /// ask again.
    PeerDied,
}

impl<E> From<Malformed> for CallError<E> {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// Set in the badge of every endpoint capability that a client is given, and in no badge of a
/// notification. A server receives both at one place; this bit is how it tells a call from a
/// signal, so that no client can forge a signal.
pub const CALLER_BIT: u64 = 1 << 63;

/// Who called: what root chose as the client's badge, without [`CALLER_BIT`].
///
/// A server can tell its clients apart by it and trusts nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(
    /// The number, below [`CALLER_BIT`].
    pub u64,
);

impl Caller {
    /// Who is behind a received badge.
    #[must_use]
    pub const fn from_badge(badge: u64) -> Self {
        Self(badge & !CALLER_BIT)
    }

    /// The badge that root gives to this client's endpoint capability.
    #[must_use]
    pub const fn badge(self) -> u64 {
        self.0 | CALLER_BIT
    }
}

/// A protocol: a closed set of operations and a closed set of errors.
pub trait Protocol: Sized + 'static {
    /// Its name, for people.
    const NAME: &'static str;
    /// Number and name of every operation.
    const OPERATIONS: &'static [(u64, &'static str)];
    /// One of its requests.
    type Request: Request;
    /// Why a server refuses.
    type Error: ServerError;
}

/// The requests of one protocol.
pub trait Request: Sized + Debug + PartialEq {
    /// Reads a request.
    ///
    /// # Errors
    /// The label is no operation, or the body is not exactly its arguments.
    fn decode(message: &Message) -> Result<Self, Malformed>;

    /// Writes a request.
    ///
    /// # Errors
    /// The arguments do not fit a message.
    fn encode(&self) -> Result<Message, Malformed>;
}

/// The errors of one protocol.
pub trait ServerError:
    Debug + Clone + Copy + PartialEq + Eq + Serialize + DeserializeOwned + 'static
{
    /// Every one.
    const ALL: &'static [Self];
}

/// One operation: its request is the type itself, its reply is tied to it.
pub trait Operation: Sized + Into<<Self::Protocol as Protocol>::Request> {
    /// The protocol it belongs to.
    type Protocol: Protocol;
    /// What the server answers.
    type Reply: Reply;
    /// Its number: the label of the request.
    const NUMBER: u64;
    /// Its name, for people.
    const NAME: &'static str;
    /// Kinds of the capabilities that go with the request.
    const CAPS: &'static [CapKind];

    /// Reads a request of this operation.
    ///
    /// # Errors
    /// The body is not exactly the arguments, or the capability is not exactly the declared one.
    fn decode(message: &Message) -> Result<Self, Malformed>;

    /// Writes a request.
    ///
    /// # Errors
    /// The arguments do not fit a message.
    fn encode(&self) -> Result<Message, Malformed>;
}

/// What a server answers: plain data, or [`WithCap`](crate::passing::WithCap) a capability.
pub trait Reply: Sized + Debug + PartialEq {
    /// Kind of the capability that goes with it.
    const CAP: Option<CapKind>;

    /// Writes it as a message with this label.
    ///
    /// # Errors
    /// It does not fit a message.
    fn encode(&self, label: u64) -> Result<Message, Malformed>;

    /// Reads it.
    ///
    /// # Errors
    /// The body is not exactly one such value, or the capability is not exactly the declared one.
    fn decode(message: &Message) -> Result<Self, Malformed>;
}

impl<T: Serialize + DeserializeOwned + Debug + PartialEq> Reply for T {
    const CAP: Option<CapKind> = None;

    fn encode(&self, label: u64) -> Result<Message, Malformed> {
        Message::encode(label, self)
    }

    fn decode(message: &Message) -> Result<Self, Malformed> {
        message.decode()
    }
}

/// The error type of an operation's protocol.
pub type ErrorOf<O> = <<O as Operation>::Protocol as Protocol>::Error;

/// What carries a request to a server and its reply back, and blocks until then.
pub trait Transport {
    /// Calls the server and returns what came back. A server that died has answered with the
    /// label [`reply_label::PEER_DIED`].
    ///
    /// # Errors
    /// What came back is no message.
    fn call(&self, request: &Message) -> Result<Message, Malformed>;
}

impl<T: Transport + ?Sized> Transport for &T {
    fn call(&self, request: &Message) -> Result<Message, Malformed> {
        T::call(self, request)
    }
}

/// What carries a request to a server, and its reply back when it is there: the caller does other
/// things meanwhile.
pub trait AsyncTransport {
    /// As [`Transport::call`], as a future.
    fn call(&self, request: Message) -> impl Future<Output = Result<Message, Malformed>>;
}

impl<T: AsyncTransport + ?Sized> AsyncTransport for &T {
    fn call(&self, request: Message) -> impl Future<Output = Result<Message, Malformed>> {
        T::call(self, request)
    }
}

/// Makes a client whose methods are futures: `Client::new(Awaited(transport))`.
#[derive(Debug, Clone, Copy)]
pub struct Awaited<T>(
    /// What carries the messages.
    pub T,
);

/// One operation through a transport: what every client method is.
///
/// # Errors
/// Those of the server, of the form, of the transport.
pub fn call<O: Operation>(
    transport: &(impl Transport + ?Sized),
    operation: &O,
) -> Result<O::Reply, CallError<ErrorOf<O>>> {
    outcome::<O>(&transport.call(&operation.encode()?)?)
}

/// [`call`] as a future.
///
/// # Errors
/// As there.
pub async fn call_later<O: Operation>(
    transport: &(impl AsyncTransport + ?Sized),
    operation: O,
) -> Result<O::Reply, CallError<ErrorOf<O>>> {
    outcome::<O>(&transport.call(operation.encode()?).await?)
}

/// What a reply to operation `O` says.
fn outcome<O: Operation>(reply: &Message) -> Result<O::Reply, CallError<ErrorOf<O>>> {
    match reply.label() {
        reply_label::OK => Ok(O::Reply::decode(reply)?),
        reply_label::SERVER_ERROR => Err(CallError::Server(reply.decode()?)),
        reply_label::PEER_DIED => Err(CallError::PeerDied),
        _ => Err(CallError::Malformed),
    }
}

/// The reply message for an operation's outcome. A reply that does not fit a message is the
/// server's mistake and is answered as Malformed.
pub fn reply<T: Reply, E: ServerError>(outcome: &Result<T, E>) -> Message {
    let encoded = match outcome {
        Ok(value) => value.encode(reply_label::OK),
        Err(error) => Message::encode(reply_label::SERVER_ERROR, error),
    };
    encoded.unwrap_or(Message::empty(reply_label::MALFORMED))
}

/// Answers the requests of protocol `P`. Every server trait that `protocol!` declares gives it.
pub trait Serve<P: Protocol> {
    /// Carries one request out. The future holds all that the request needs, so that a server
    /// that waits in one request serves others meanwhile.
    fn answer(&self, caller: Caller, request: P::Request) -> impl Future<Output = Message>;
}

/// Reads a request and lets the server answer it; nonsense is answered without the server.
///
/// The request is read before the future is made: `message` is not held while it runs.
pub fn dispatch<'s, P: Protocol, S: Serve<P>>(
    server: &'s S,
    caller: Caller,
    message: &Message,
) -> impl Future<Output = Message> + use<'s, P, S> {
    let request = P::Request::decode(message);
    async move {
        match request {
            Ok(request) => server.answer(caller, request).await,
            Err(Malformed) => Message::empty(reply_label::MALFORMED),
        }
    }
}

/// Declares a protocol; the crate's documentation shows how.
macro_rules! protocol {
    (
        $(#[$protocol_doc:meta])*
        protocol $protocol:ident { client $client:ident, server $server:ident, request $request:ident }

        $(#[$error_doc:meta])*
        error $error:ident { $( $(#[$variant_doc:meta])* $variant:ident, )* }

        $(
            $(#[$operation_doc:meta])*
            $number:literal $operation:ident =
                fn $method:ident(
                    $( $argument:ident : $argument_type:ty ),* $(,)? $( ; $cap:ident : $kind:ident )?
                ) -> $reply:ty;
        )+
    ) => {
        $(#[$protocol_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $protocol {}

        impl $crate::protocol::Protocol for $protocol {
            const NAME: &'static str = stringify!($protocol);
            const OPERATIONS: &'static [(u64, &'static str)] =
                &[ $( ($number, stringify!($operation)), )+ ];
            type Request = $request;
            type Error = $error;
        }

        // Operation numbers are positive and rise, so no two are the same.
        const _: () = {
            let mut last = 0;
            let mut index = 0;
            let operations = <$protocol as $crate::protocol::Protocol>::OPERATIONS;
            while index < operations.len() {
                assert!(operations[index].0 > last, "operation numbers must rise from 1");
                last = operations[index].0;
                index += 1;
            }
        };

        $(#[$error_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $error { $( $(#[$variant_doc])* $variant, )* }

        impl $crate::protocol::ServerError for $error {
            const ALL: &'static [Self] = &[ $( $error::$variant, )* ];
        }

        $(
            $(#[$operation_doc])*
            #[derive(Debug, Clone, PartialEq)]
            pub struct $operation {
                $(
                    #[doc = concat!("Argument `", stringify!($argument), "` of the operation.")]
                    pub $argument: $argument_type,
                )*
                $(
                    #[doc = concat!("Capability `", stringify!($cap), "` of the operation.")]
                    pub $cap: $crate::passing::Passed<$crate::passing::kind::$kind>,
                )?
            }

            impl $crate::protocol::Operation for $operation {
                type Protocol = $protocol;
                type Reply = $reply;
                const NUMBER: u64 = $number;
                const NAME: &'static str = stringify!($operation);
                const CAPS: &'static [$crate::start::CapKind] =
                    &[ $( $crate::start::CapKind::$kind )? ];

                fn decode(
                    message: &$crate::message::Message,
                ) -> Result<Self, $crate::message::Malformed> {
                    if message.cap().is_some() == Self::CAPS.is_empty() {
                        return Err($crate::message::Malformed);
                    }
                    $( let $cap = message.cap().ok_or($crate::message::Malformed)?.typed()?; )?
                    // A list of arguments has the bytes of a tuple.
                    let ( $( $argument, )* ): ( $( $argument_type, )* ) = message.decode_body()?;
                    Ok(Self { $( $argument, )* $( $cap, )? })
                }

                fn encode(&self) -> Result<$crate::message::Message, $crate::message::Malformed> {
                    let message =
                        $crate::message::Message::encode($number, &( $( &self.$argument, )* ))?;
                    $( let message = message.with_cap(self.$cap.attached()); )?
                    Ok(message)
                }
            }

            impl From<$operation> for $request {
                fn from(operation: $operation) -> Self {
                    Self::$operation(operation)
                }
            }
        )+

        #[doc = concat!("A request of [`", stringify!($protocol), "`].")]
        #[derive(Debug, Clone, PartialEq)]
        pub enum $request {
            $(
                #[doc = concat!("See [`", stringify!($operation), "`](struct@", stringify!($operation), ").")]
                $operation($operation),
            )+
        }

        impl $crate::protocol::Request for $request {
            fn decode(
                message: &$crate::message::Message,
            ) -> Result<Self, $crate::message::Malformed> {
                match message.label() {
                    $( $number => <$operation as $crate::protocol::Operation>::decode(message)
                        .map(Self::$operation), )+
                    _ => Err($crate::message::Malformed),
                }
            }

            fn encode(&self) -> Result<$crate::message::Message, $crate::message::Malformed> {
                match self {
                    $( Self::$operation(operation) =>
                        $crate::protocol::Operation::encode(operation), )+
                }
            }
        }

        #[doc = concat!("The client's side of [`", stringify!($protocol), "`].")]
        #[derive(Debug, Clone, Copy)]
        pub struct $client<T> {
            transport: T,
        }

        impl<T> $client<T> {
            /// A client that calls through `transport`.
            pub const fn new(transport: T) -> Self {
                Self { transport }
            }
        }

        impl<T: $crate::protocol::AsyncTransport> $client<$crate::protocol::Awaited<T>> {
            $(
                $(#[$operation_doc])*
                ///
                /// # Errors
                /// Those of the server, of the form, of the transport.
                pub async fn $method(
                    &self,
                    $( $argument: $argument_type, )*
                    $( $cap: impl Into<$crate::passing::Passed<$crate::passing::kind::$kind>>, )?
                ) -> Result<$reply, $crate::protocol::CallError<$error>> {
                    let operation = $operation { $( $argument, )* $( $cap: $cap.into(), )? };
                    $crate::protocol::call_later(&self.transport.0, operation).await
                }
            )+
        }

        impl<T: $crate::protocol::Transport> $client<T> {
            $(
                $(#[$operation_doc])*
                ///
                /// # Errors
                /// Those of the server, of the form, of the transport.
                pub fn $method(
                    &self,
                    $( $argument: $argument_type, )*
                    $( $cap: impl Into<$crate::passing::Passed<$crate::passing::kind::$kind>>, )?
                ) -> Result<$reply, $crate::protocol::CallError<$error>> {
                    let operation = $operation { $( $argument, )* $( $cap: $cap.into(), )? };
                    $crate::protocol::call(&self.transport, &operation)
                }
            )+
        }

        #[doc = concat!("The server's side of [`", stringify!($protocol), "`].")]
        pub trait $server {
            $(
                $(#[$operation_doc])*
                ///
                /// # Errors
                /// As the protocol's error type says.
                fn $method(
                    &self,
                    caller: $crate::protocol::Caller,
                    $( $argument: $argument_type, )*
                    $( $cap: $crate::passing::Passed<$crate::passing::kind::$kind>, )?
                ) -> impl Future<Output = Result<$reply, $error>>;
            )+
        }

        impl<S: $server> $crate::protocol::Serve<$protocol> for S {
            async fn answer(
                &self,
                caller: $crate::protocol::Caller,
                request: $request,
            ) -> $crate::message::Message {
                match request {
                    $(
                        $request::$operation($operation { $( $argument, )* $( $cap, )? }) => {
                            let outcome = self.$method(caller, $( $argument, )* $( $cap, )?).await;
                            $crate::protocol::reply(&outcome)
                        }
                    )+
                }
            }
        }
    };
}
pub(crate) use protocol;
