//! What lies between programs: channels, and the bits by which each source wakes a program.

use crate::manifest::refusal::Refusal;
use crate::manifest::source::{Channel as Text, Source};
use proto::boot::manifest::LAST_WAKE_BIT;
use proto::boot::{Callee, Channel, ChannelKind, Device, Program};

/// Resolves every program's channels, root's first.
pub fn channels(source: &Source, programs: &[Program]) -> Result<Vec<Channel>, Refusal> {
    let root = source
        .root
        .channels
        .iter()
        .map(|text| ("root", Callee::Root, text));
    let others = source.program.iter().zip(0..).flat_map(|(program, index)| {
        program
            .channels
            .iter()
            .map(move |text| (program.name.as_str(), Callee::Program(index), text))
    });
    let mut channels: Vec<Channel> = Vec::new();
    for (name, from, text) in root.chain(others) {
        let channel = channel(name, from, text, programs)?;
        check_unique(&channels, &channel)?;
        channels.push(channel);
    }
    Ok(channels)
}

fn channel(
    program: &str,
    from: Callee,
    text: &Text,
    programs: &[Program],
) -> Result<Channel, Refusal> {
    let peer = programs.iter().position(|peer| peer.name == text.to);
    let peer = peer.ok_or_else(|| Refusal::UnknownName {
        program: program.to_owned(),
        what: "program",
        name: text.to.clone(),
    })?;
    let (program, channel) = (program.to_owned(), text.name.clone());
    if programs[peer].instances > 1 {
        return Err(Refusal::ManyPeers {
            program,
            channel,
            peer: text.to.clone(),
        });
    }
    let several =
        matches!(from, Callee::Program(index) if programs[usize::from(index)].instances > 1);
    if several && !text.to_name.contains("{instance}") {
        return Err(Refusal::SharedChannelName { program, channel });
    }
    for (key, bit) in [("bit", text.bit), ("to_bit", text.to_bit)] {
        if bit > LAST_WAKE_BIT {
            let (value, allowed) = (bit.to_string(), "a bit in 0..=61");
            return Err(Refusal::OutOfRange {
                program,
                key,
                value,
                allowed,
            });
        }
    }
    let kind = match text.kind.as_deref() {
        None | Some("bytes") => ChannelKind::Bytes,
        Some("log") => ChannelKind::Log,
        Some(other) => {
            let (value, allowed) = (format!("\"{other}\""), "\"bytes\" or \"log\"");
            return Err(Refusal::OutOfRange {
                program,
                key: "kind",
                value,
                allowed,
            });
        }
    };
    Ok(Channel {
        kind,
        from,
        from_name: text.name.clone(),
        from_bit: text.bit,
        to: peer as u16,
        to_name: text.to_name.clone(),
        to_bit: text.to_bit,
    })
}

/// Neither end has another channel of the new one's name.
fn check_unique(earlier: &[Channel], new: &Channel) -> Result<(), Refusal> {
    let taken = |end: Callee, name: &str| {
        earlier.iter().any(|old| {
            (old.from == end && old.from_name == name)
                || (Callee::Program(old.to) == end && old.to_name == name)
        })
    };
    let ends = [
        (new.from, &new.from_name),
        (Callee::Program(new.to), &new.to_name),
    ];
    match ends.into_iter().find(|(end, name)| taken(*end, name)) {
        Some((_, name)) => Err(Refusal::DuplicateName {
            what: "channel",
            name: name.clone(),
        }),
        None => Ok(()),
    }
}

/// What can wake a program. Channels may share a bit, because their rings say which of them has
/// something; nothing else may.
enum Waker {
    Channel(String),
    Other(String),
}

/// No two sources wake a program with one bit, unless both are channels.
pub fn check_bits(
    programs: &[Program],
    devices: &[Device],
    channels: &[Channel],
) -> Result<(), Refusal> {
    for (program, index) in programs.iter().zip(0..) {
        let sources = sources(program, Callee::Program(index), devices, channels);
        for (position, (bit, source)) in sources.iter().enumerate() {
            let clash = sources[..position].iter().find(|(other_bit, other)| {
                other_bit == bit
                    && !matches!((other, source), (Waker::Channel(_), Waker::Channel(_)))
            });
            if let Some((_, other)) = clash {
                return Err(Refusal::SharedBit {
                    program: program.name.clone(),
                    bit: *bit,
                    sources: [show(other), show(source)],
                });
            }
        }
    }
    Ok(())
}

fn sources(
    program: &Program,
    own: Callee,
    devices: &[Device],
    channels: &[Channel],
) -> Vec<(u8, Waker)> {
    let timer = program
        .timer_bit
        .map(|bit| (bit, Waker::Other("the timer".to_owned())));
    let signals = (0..=LAST_WAKE_BIT)
        .filter(|bit| program.signal_bits & 1 << bit != 0)
        .map(|bit| (bit, Waker::Other("a signal".to_owned())));
    let interrupts = program.devices.iter().filter_map(|grant| {
        let name = &devices[usize::from(grant.device)].name;
        grant
            .bit
            .map(|bit| (bit, Waker::Other(format!("device `{name}`"))))
    });
    let ends = channels.iter().flat_map(|channel| {
        let from = (channel.from == own).then_some((channel.from_bit, &channel.from_name));
        let to = (Callee::Program(channel.to) == own).then_some((channel.to_bit, &channel.to_name));
        from.into_iter().chain(to)
    });
    let ends = ends.map(|(bit, name)| (bit, Waker::Channel(format!("channel `{name}`"))));
    timer
        .into_iter()
        .chain(signals)
        .chain(interrupts)
        .chain(ends)
        .collect()
}

fn show(source: &Waker) -> String {
    match source {
        Waker::Channel(text) | Waker::Other(text) => text.clone(),
    }
}
