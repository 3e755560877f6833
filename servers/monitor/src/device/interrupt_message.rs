//! An interrupt on its way to local APICs: what an IOAPIC entry, an MSI or an IPI turns into.

use serde::{Deserialize, Serialize};

/// How the interrupt is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// To every destination.
    Fixed,
    /// To one of the destinations.
    LowestPriority,
    /// Non-maskable.
    Nmi,
    /// Resets the CPU and makes it wait for a start-up message.
    Init,
    /// Starts a CPU that waits for it.
    Startup,
    /// The 8259 pair supplies the vector.
    External,
    /// SMI and reserved encodings: never delivered here.
    Unsupported,
}

impl Delivery {
    /// From the three bits that every message format uses.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            0 => Delivery::Fixed,
            1 => Delivery::LowestPriority,
            4 => Delivery::Nmi,
            5 => Delivery::Init,
            6 => Delivery::Startup,
            7 => Delivery::External,
            _ => Delivery::Unsupported,
        }
    }
}

/// Edge or level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// Once per assertion.
    Edge,
    /// As long as asserted; the end of the interrupt is reported back.
    Level,
}

/// For which local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// The one with this identifier; all ones means all.
    Physical(u32),
    /// Those whose logical identifier matches.
    Logical(u32),
    /// The sender.
    Itself,
    /// Everybody.
    All,
    /// Everybody but the sender.
    Others,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptMessage {
    /// For whom.
    pub destination: Destination,
    /// How.
    pub delivery: Delivery,
    /// Edge or level.
    pub trigger: Trigger,
    /// Vector (page number for [`Delivery::Startup`]).
    pub vector: u8,
}

impl InterruptMessage {
    /// The message that a device's memory write to `address` with `data` stands for (Intel SDM
    /// volume 3, "Message Signalled Interrupts").
    #[must_use]
    pub fn from_msi(address: u64, data: u32) -> Self {
        let identifier = (address >> 12 & 0xff) as u32;
        Self {
            destination: if address & 1 << 2 == 0 {
                Destination::Physical(identifier)
            } else {
                Destination::Logical(identifier)
            },
            delivery: Delivery::from_bits(u64::from(data) >> 8),
            trigger: if data & 1 << 15 == 0 {
                Trigger::Edge
            } else {
                Trigger::Level
            },
            vector: data as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_msi_names_destination_mode_and_vector() {
        let message = InterruptMessage::from_msi(0xfee0_300c, 0x0141);
        assert_eq!(message.destination, Destination::Logical(3));
        assert_eq!(message.delivery, Delivery::LowestPriority);
        assert_eq!(message.vector, 0x41);
        assert_eq!(message.trigger, Trigger::Edge);
    }
}
