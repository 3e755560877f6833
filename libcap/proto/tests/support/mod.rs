//! What every wire test does: freeze, cover, damage.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::marker::PhantomData;
use std::path::Path;
use std::{env, fs};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use proto::Message;
use proto::message::{BODY_BYTES_MAX, reply_label};
use proto::protocol::{self, Operation, Protocol, Request, ServerError};

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
        let reply_message = protocol::reply::<_, P::Error>(&Ok(reply));
        assert_eq!(
            reply_message.label(),
            reply_label::OK,
            "an example fits a message"
        );
        self.lines
            .push((format!("request {}", O::NAME), request_message));
        self.lines
            .push((format!("reply {}", O::NAME), reply_message.clone()));
        self.replies.push((reply_message, |message| {
            let value = message.decode::<O::Reply>().ok()?;
            Some(Message::encode(message.label(), &value).expect("what was read fits"))
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

/// A message that was damaged: cut, lengthened, a byte changed, or altogether random.
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
    (label, prop_oneof![random, changed]).prop_map(|(label, body)| {
        Message::from_body(label, &body).expect("no longer than a message")
    })
}

/// The same body one byte shorter or longer.
fn wrong_lengths(original: &Message) -> impl Iterator<Item = Message> {
    let body = original.body();
    let cut = (0..body.len()).map(|length| body[..length].to_vec());
    let longer = (body.len() < BODY_BYTES_MAX).then(|| [body, &[0]].concat());
    cut.chain(longer)
        .map(|body| Message::from_body(original.label(), &body).unwrap())
}

fn check_damaged_requests<P: Protocol>(exchanges: &Exchanges<P>) {
    let requests = exchanges
        .lines
        .iter()
        .filter(|(name, _)| name.starts_with("request"));
    for (name, request) in requests {
        for wrong in wrong_lengths(request) {
            assert!(P::Request::decode(&wrong).is_err(), "{name}: {wrong:?}");
        }
        TestRunner::default()
            .run(&damaged(request), |message| {
                if let Ok(read) = P::Request::decode(&message) {
                    let again = read.encode().expect("what was read fits a message");
                    prop_assert_eq!(P::Request::decode(&again), Ok(read));
                }
                Ok(())
            })
            .unwrap();
    }
}

fn check_damaged_replies<P: Protocol>(exchanges: &Exchanges<P>) {
    for (reply, reread) in &exchanges.replies {
        for wrong in wrong_lengths(reply) {
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
