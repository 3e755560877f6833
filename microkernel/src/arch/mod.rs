//! The machine below the object model, and the only place that knows which one it is.
//!
//! Both implementations have the same functions: `x86_64` is the hardware, `host` a stand-in for
//! tests that records what it was told. Logic calls `arch::…` and never asks which.

#[cfg(feature = "bare")]
mod x86_64;
#[cfg(feature = "bare")]
pub use x86_64::*;

#[cfg(not(feature = "bare"))]
pub mod host;
#[cfg(not(feature = "bare"))]
pub use host::*;

/// An address space as a CPU takes it: what `space_word` made of a root and its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceWord(pub u64);

/// Access width of an I/O port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortWidth {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Long,
}

/// How an IOAPIC pin is to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicRoute {
    /// Index of the IOAPIC.
    pub ioapic: u64,
    /// Pin of it.
    pub pin: u64,
    /// Level-triggered (else edge).
    pub level: u64,
    /// Active low (else high).
    pub polarity: u64,
    /// User vector, 0..=107; the IDT vector is 0x30 above.
    pub vector: u64,
}

/// Whether an interrupt is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqMask {
    /// Held back.
    Masked,
    /// Delivered.
    Unmasked,
}
