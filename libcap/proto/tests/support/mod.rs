//! What every wire test does: freeze, cover, damage.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::path::Path;
use std::{env, fs};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use proto::Message;
use proto::message::{BODY_BYTES_MAX, reply_label};
use proto::passing::{Attached, CAPS_MAX, CapName};
use proto::protocol::{self, Operation, Protocol, Reply, Request, ServerError};
use proto::start::CapKind;

/// Decodes a reply of one operation and encodes it again, `None` if it is refused.
type Reread = fn(&Message) -> Option<Message>;

/// One exchange of each operation of protocol `P`.
pub struct Exchanges<P> {
    lines: Vec<(String, Message)>,
    replies: Vec<(Message, Reread)>,
    operations: BTreeSet<u64>,
    protocol: PhantomData<P>,
}

impl<P: Protocol> Exchanges<P> {
    pub fn new() -> Self {
        Self {
            lines: Vec::new(),
            replies: Vec::new(),
            operations: BTreeSet::new(),
            protocol: PhantomData,
        }
    }

    /// Adds a request and the reply to it. An operation may have several exchanges.
    pub fn with<O: Operation<Protocol = P>>(mut self, operation: O, reply: O::Reply) -> Self {
        let request: P::Request = operation.into();
        let request_message = request.encode().expect("an example fits a message");
        assert_eq!(P::Request::decode(&request_message), Ok(request));
        assert!(O::CAPS.len() <= CAPS_MAX);
        assert_eq!(kind(&request_message), O::CAPS.first().copied());
        let reply_message = protocol::reply::<_, P::Error>(&Ok(reply));
        assert_eq!(
            reply_message.label(),
            reply_label::OK,
            "an example fits a message"
        );
        assert_eq!(kind(&reply_message), O::Reply::CAP);
        self.lines
            .push((format!("request {}", O::NAME), request_message));
        self.lines
            .push((format!("reply {}", O::NAME), reply_message.clone()));
        self.replies.push((reply_message, |message| {
            let value = O::Reply::decode(message).ok()?;
            Some(value.encode(message.label()).expect("what was read fits"))
        }));
        self.operations.insert(O::NUMBER);
        self
    }
}

/// Checks everything that holds for any protocol; `module` names it and its frozen file.
pub fn check_protocol<P: Protocol>(module: &str, exchanges: Exchanges<P>) {
    for (number, name) in P::OPERATIONS {
        assert!(
            exchanges.operations.contains(number),
            "{}: no exchange for {name}",
            P::NAME
        );
    }
    check_frozen::<P>(module, &exchanges);
    check_damaged_requests::<P>(&exchanges);
    check_damaged_replies(&exchanges);
}

fn check_frozen<P: Protocol>(module: &str, exchanges: &Exchanges<P>) {
    let mut text = String::new();
    let errors = P::Error::ALL.iter().map(|error| {
        (
            format!("error {error:?}"),
            protocol::reply::<(), P::Error>(&Err(*error)),
        )
    });
    for (name, message) in exchanges.lines.iter().cloned().chain(errors) {
        write!(text, "{name}: {}", message.label()).unwrap();
        for byte in message.body() {
            write!(text, " {byte:02x}").unwrap();
        }
        if let Some(kind) = kind(&message) {
            write!(text, " with {kind:?}").unwrap();
        }
        text.push('\n');
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/wire/{module}.hex"));
    let frozen = fs::read_to_string(&file).unwrap_or_default();
    for line in frozen.lines() {
        assert!(
            text.lines().any(|now| now == line),
            "{module}: frozen bytes changed: {line}"
        );
    }
    if env::var_os("FREEZE_WIRE").is_some() {
        fs::write(&file, &text).unwrap();
    } else {
        assert_eq!(
            text, frozen,
            "{module}: not frozen yet, run this test with FREEZE_WIRE=1"
        );
    }
}

/// Kind of a message's capability.
fn kind(message: &Message) -> Option<CapKind> {
    message.cap().map(Attached::kind)
}

/// The message with this capability, or with none.
fn with_kind(message: &Message, kind: Option<CapKind>) -> Message {
    let bare = Message::from_body(message.label(), message.body()).expect("it was a message");
    let name = CapName(NonZeroU64::new(77).expect("not 0"));
    match kind {
        Some(kind) => bare.with_cap(Attached::lent(name, kind)),
        None => bare,
    }
}

/// Capabilities that a message may come with.
const KINDS: [Option<CapKind>; 5] = [
    None,
    Some(CapKind::Endpoint),
    Some(CapKind::Notification),
    Some(CapKind::Frame),
    Some(CapKind::CNode),
];

/// The same message with every other capability than its own.
fn wrong_caps(original: &Message) -> impl Iterator<Item = Message> {
    let wrong = KINDS.into_iter().filter(|other| *other != kind(original));
    wrong.map(|kind| with_kind(original, kind))
}

/// A message that was damaged: cut, lengthened, a byte or the capability changed, or altogether
/// random.
fn damaged(original: &Message) -> impl Strategy<Value = Message> + use<> {
    let (label, body) = (original.label(), original.body().to_vec());
    let random = prop::collection::vec(any::<u8>(), 0..=BODY_BYTES_MAX);
    let changed = (any::<prop::sample::Index>(), any::<u8>()).prop_map({
        let body = body.clone();
        move |(index, byte)| {
            let mut body = body.clone();
            if !body.is_empty() {
                let index = index.index(body.len());
                body[index] = byte;
            }
            body
        }
    });
    let label = prop_oneof![4 => Just(label), 1 => 0_u64..20, 1 => any::<u64>()];
    let own = kind(original);
    let kind = prop_oneof![2 => Just(own), 1 => prop::sample::select(&KINDS[..])];
    (label, prop_oneof![random, changed], kind).prop_map(|(label, body, kind)| {
        let message = Message::from_body(label, &body).expect("no longer than a message");
        with_kind(&message, kind)
    })
}

/// The same body one byte shorter or longer.
fn wrong_lengths(original: &Message) -> impl Iterator<Item = Message> {
    let body = original.body();
    let cut = (0..body.len()).map(|length| body[..length].to_vec());
    let longer = (body.len() < BODY_BYTES_MAX).then(|| [body, &[0]].concat());
    let kind = kind(original);
    cut.chain(longer).map(move |body| {
        let message = Message::from_body(original.label(), &body).unwrap();
        with_kind(&message, kind)
    })
}

fn check_damaged_requests<P: Protocol>(exchanges: &Exchanges<P>) {
    let requests = exchanges
        .lines
        .iter()
        .filter(|(name, _)| name.starts_with("request"));
    for (name, request) in requests {
        for wrong in wrong_lengths(request).chain(wrong_caps(request)) {
            assert!(P::Request::decode(&wrong).is_err(), "{name}: {wrong:?}");
        }
        TestRunner::default()
            .run(&damaged(request), |message| {
                if let Ok(read) = P::Request::decode(&message) {
                    let again = read.encode().expect("what was read fits a message");
                    prop_assert_eq!(kind(&again), kind(&message));
                    prop_assert_eq!(P::Request::decode(&again), Ok(read));
                }
                Ok(())
            })
            .unwrap();
    }
}

fn check_damaged_replies<P: Protocol>(exchanges: &Exchanges<P>) {
    for (reply, reread) in &exchanges.replies {
        for wrong in wrong_lengths(reply).chain(wrong_caps(reply)) {
            assert!(reread(&wrong).is_none(), "{wrong:?}");
        }
        TestRunner::default()
            .run(&damaged(reply), |message| {
                if let Some(again) = reread(&message) {
                    prop_assert_eq!(reread(&again), Some(again));
                }
                Ok(())
            })
            .unwrap();
    }
}

/// Modules of this crate that declare a protocol, sorted.
pub fn protocol_modules() -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules: Vec<String> = fs::read_dir(source)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| {
            fs::read_to_string(path)
                .unwrap()
                .lines()
                .any(|line| line == "protocol! {")
        })
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    modules.sort();
    modules
}
