//! A kernel for tests: it records what is asked and answers what the test prepared.

use std::cell::RefCell;
use std::collections::VecDeque;

use sel4_sys::message::{EXTRA_CAPS, MESSAGE_WORDS};
use sel4_sys::{CPtr, MessageInfo};

use super::{Delivery, Request};

/// One system call as the kernel would have seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub request: Request,
    /// Every word of the message.
    pub words: Vec<u64>,
    /// The capabilities with it.
    pub caps: Vec<CPtr>,
    /// Where a received capability would land: CNode and index.
    pub receive_slot: (CPtr, u64),
}

#[derive(Default)]
struct Recorder {
    message: Vec<u64>,
    caps: [u64; EXTRA_CAPS],
    receive_slot: (u64, u64),
    recorded: Vec<Recorded>,
    answers: VecDeque<Answer>,
}

/// What the next system call returns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub badge: u64,
    pub label: u64,
    pub words: Vec<u64>,
    /// Capabilities that come with it.
    pub caps: usize,
    /// Which of them as badges only.
    pub unwrapped: u64,
}

thread_local! {
    static RECORDER: RefCell<Recorder> = RefCell::default();
}

/// Makes the next system call of this thread return `answer`; without one it returns zeros.
pub(crate) fn prepare(answer: Answer) {
    RECORDER.with_borrow_mut(|recorder| recorder.answers.push_back(answer));
}

/// Everything this thread asked since the last call.
pub(crate) fn take() -> Vec<Recorded> {
    RECORDER.with_borrow_mut(|recorder| std::mem::take(&mut recorder.recorded))
}

pub(crate) fn system_call(request: Request) -> Delivery {
    RECORDER.with_borrow_mut(|recorder| {
        recorder.message.resize(MESSAGE_WORDS, 0);
        let mut words = recorder.message.clone();
        words[..4].copy_from_slice(&request.registers);
        words.truncate(request.info.length());
        let caps = recorder.caps[..request.info.extra_caps()]
            .iter()
            .map(|&cap| CPtr(cap));
        recorder.recorded.push(Recorded {
            request,
            words,
            caps: caps.collect(),
            receive_slot: (CPtr(recorder.receive_slot.0), recorder.receive_slot.1),
        });
        let answer = recorder.answers.pop_front().unwrap_or_default();
        recorder.message[..answer.words.len()].copy_from_slice(&answer.words);
        let mut registers = [0; 4];
        registers
            .iter_mut()
            .zip(&answer.words)
            .for_each(|(register, word)| *register = *word);
        let info = MessageInfo::new(answer.label, answer.words.len(), answer.caps)
            .with_caps_unwrapped(answer.unwrapped);
        Delivery {
            badge: answer.badge,
            info,
            registers,
        }
    })
}

pub(crate) fn buffer_word(index: usize) -> u64 {
    RECORDER.with_borrow(|recorder| recorder.message[index])
}

pub(crate) fn set_buffer_word(index: usize, word: u64) {
    RECORDER.with_borrow_mut(|recorder| {
        recorder.message.resize(MESSAGE_WORDS, 0);
        recorder.message[index] = word;
    });
}

pub(crate) fn buffer_words<const N: usize>(index: usize) -> [u64; N] {
    core::array::from_fn(|offset| buffer_word(index + offset))
}

pub(crate) fn set_buffer_words<const N: usize>(index: usize, words: &[u64; N]) {
    words
        .iter()
        .zip(index..)
        .for_each(|(word, index)| set_buffer_word(index, *word));
}

pub(crate) fn set_extra_cap(index: usize, cap: CPtr) {
    RECORDER.with_borrow_mut(|recorder| recorder.caps[index] = cap.0);
}

pub(crate) fn set_receive_slot(cnode: CPtr, index: u64, _: u64) {
    RECORDER.with_borrow_mut(|recorder| recorder.receive_slot = (cnode.0, index));
}

/// Gives other threads a chance.
pub fn yield_now() {
    std::thread::yield_now();
}

/// Prints nothing.
pub fn debug_put_char(_: u8) {}

/// Time stands still.
pub fn time_stamp() -> u64 {
    0
}
