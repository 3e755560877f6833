//! What a program finds when it starts: its capabilities, memory and arguments, by name.
//!
//! Root writes a [`StartInfo`] into pages that it maps read-only into a new program and passes
//! their address in RDI; `libcap::env` reads it there. It is separate from the protocols because
//! it is not a message: it is longer, and it is written before anybody could call.
//!
//! Layout of the pages: u32 little-endian length, then exactly that many bytes of postcard.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Most bytes of a start record with its length word: sixteen pages. A monitor's configuration
/// is the largest argument in the system and takes less than two.
pub const START_BYTES_MAX: usize = 16 * 4096;
/// Bytes of the length word.
const LENGTH_BYTES: usize = 4;

/// Where the image of every program begins, the root task's too: `libcap/server.ld` says it.
pub const IMAGE_FIRST: u64 = 0x40_0000;
/// Byte of the IPC buffer's page at which the page's own address stands (a u64). The FS base of a
/// thread is the address of that page, so a thread finds its buffer with one load.
pub const IPC_BUFFER_POINTER_OFFSET: u64 = 1024;
/// Byte of the same page at which a program that panics leaves its last words: u32 little-endian
/// length, then UTF-8 text. Root, which holds the frame, can print them; it must not trust them.
pub const PANIC_MESSAGE_OFFSET: u64 = 1032;
/// Most bytes of that text: the rest of the page.
pub const PANIC_MESSAGE_BYTES_MAX: usize = 4096 - 1032 - 4;

/// Everything that root tells a program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StartInfo {
    /// Name of the program in the manifest.
    pub program: String,
    /// Which of the program's instances this is, from 0; a restart keeps the number.
    pub instance: u32,
    /// Number of threads, the main thread included.
    pub threads: u32,
    /// Address of each thread's IPC buffer page.
    pub ipc_buffers: Vec<u64>,
    /// Memory for the heap.
    pub heap: Region,
    /// Ticks of the time-stamp counter in a millisecond.
    pub tsc_khz: u64,
    /// Capabilities.
    pub caps: Vec<NamedCap>,
    /// Memory.
    pub regions: Vec<NamedRegion>,
    /// What whoever started the program said to it; its form is the program's own.
    pub args: Vec<u8>,
}

/// A range of virtual addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Region {
    /// First address.
    pub vaddr: u64,
    /// Bytes.
    pub length: u64,
}

/// A capability under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedCap {
    /// The name; conventional ones are `self`, `wake`, `timer`, `reply.N`, `root`.
    pub name: String,
    /// What it is.
    pub kind: CapKind,
    /// Where it is in the program's capability space.
    pub slot: u64,
}

/// Memory under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRegion {
    /// The name; the two rings of a channel are `<channel>.tx` and `<channel>.rx`.
    pub name: String,
    /// First address.
    pub vaddr: u64,
    /// Bytes.
    pub length: u64,
    /// Physical address; only of device memory and of memory that a device reaches.
    pub paddr: Option<u64>,
    /// Whether the program may write to it.
    pub writable: bool,
}

/// What a named capability is. The order is the wire format: only ever append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CapKind {
    /// An endpoint: the program's own or a server's.
    Endpoint,
    /// A notification.
    Notification,
    /// A reply object.
    Reply,
    /// A thread.
    Tcb,
    /// A capability table.
    CNode,
    /// Untyped memory.
    Untyped,
    /// A frame of any size.
    Frame,
    /// The root of a virtual address space.
    VSpace,
    /// A scheduling context.
    SchedContext,
    /// Control of one CPU's scheduling.
    SchedControl,
    /// One interrupt.
    IrqHandler,
    /// Interrupt control.
    IrqControl,
    /// A range of I/O ports.
    IoPort,
    /// I/O port control.
    IoPortControl,
    /// An ASID pool.
    AsidPool,
    /// ASID control.
    AsidControl,
    /// A virtual CPU.
    Vcpu,
    /// The root of a guest-physical address space.
    GuestRoot,
    /// A timer.
    Timer,
    /// A device's I/O space.
    IoSpace,
}

/// Why a start record could not be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartError {
    /// The record is longer than [`START_BYTES_MAX`].
    TooLong,
    /// The length word claims more bytes than there are.
    Truncated,
    /// The bytes are no start record.
    Malformed,
}

impl StartInfo {
    /// The bytes for the start pages.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn encode(&self) -> Result<Vec<u8>, StartError> {
        let body = postcard::to_allocvec(self).map_err(|_| StartError::TooLong)?;
        if body.len() > START_BYTES_MAX - LENGTH_BYTES {
            return Err(StartError::TooLong);
        }
        let length = u32::try_from(body.len()).map_err(|_| StartError::TooLong)?;
        let mut bytes = Vec::with_capacity(LENGTH_BYTES + body.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// How many bytes the record has with its length word, told from its first four bytes, so
    /// that a program knows how much of its start pages to look at.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn encoded_length(first_bytes: [u8; LENGTH_BYTES]) -> Result<usize, StartError> {
        let body =
            usize::try_from(u32::from_le_bytes(first_bytes)).map_err(|_| StartError::TooLong)?;
        if body > START_BYTES_MAX - LENGTH_BYTES {
            return Err(StartError::TooLong);
        }
        Ok(LENGTH_BYTES + body)
    }

    /// Only the heap of the record at the start of `bytes`, read without a heap.
    ///
    /// # Errors
    /// `TooLong`, `Truncated`, `Malformed`.
    pub fn decode_heap(bytes: &[u8]) -> Result<Region, StartError> {
        let body = Self::body(bytes)?;
        let malformed = |_| StartError::Malformed;
        // Postcard writes a struct as its fields in order, and a vector as its length (a varint,
        // like u64) and its elements.
        let (head, mut rest): ((&str, u32, u32, u64), _) =
            postcard::take_from_bytes(body).map_err(malformed)?;
        for _ in 0..head.3 {
            (_, rest) = postcard::take_from_bytes::<u64>(rest).map_err(malformed)?;
        }
        let (heap, _) = postcard::take_from_bytes(rest).map_err(malformed)?;
        Ok(heap)
    }

    /// The postcard bytes of the record at the start of `bytes`.
    fn body(bytes: &[u8]) -> Result<&[u8], StartError> {
        let first_bytes = bytes.first_chunk().ok_or(StartError::Truncated)?;
        let length = Self::encoded_length(*first_bytes)?;
        bytes.get(LENGTH_BYTES..length).ok_or(StartError::Truncated)
    }

    /// Reads the record at the start of `bytes`; what stands behind it is not looked at.
    ///
    /// # Errors
    /// `TooLong`, `Truncated`, `Malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, StartError> {
        let body = Self::body(bytes)?;
        match postcard::take_from_bytes(body) {
            Ok((info, [])) => Ok(info),
            Ok(_) | Err(_) => Err(StartError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> StartInfo {
        StartInfo {
            program: "console".into(),
            instance: 2,
            threads: 1,
            ipc_buffers: vec![0x7000_0000],
            heap: Region {
                vaddr: 0x1000_0000,
                length: 0x10_0000,
            },
            tsc_khz: 2_000_000,
            caps: vec![NamedCap {
                name: "self".into(),
                kind: CapKind::Endpoint,
                slot: 16,
            }],
            regions: vec![NamedRegion {
                name: "log.tx".into(),
                vaddr: 0x2000_0000,
                length: 4096,
                paddr: None,
                writable: true,
            }],
            args: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_record_is_read_back_from_a_longer_page() {
        let mut page = example().encode().unwrap();
        page.resize(4096, 0xff);
        assert_eq!(StartInfo::decode(&page), Ok(example()));
    }

    #[test]
    fn the_heap_is_found_without_reading_the_rest() {
        let bytes = example().encode().unwrap();
        assert_eq!(StartInfo::decode_heap(&bytes), Ok(example().heap));
    }

    #[test]
    fn a_record_cut_anywhere_is_refused() {
        let bytes = example().encode().unwrap();
        for length in 0..bytes.len() {
            assert_eq!(
                StartInfo::decode(&bytes[..length]),
                Err(StartError::Truncated)
            );
        }
    }

    #[test]
    fn a_length_word_that_is_off_by_one_is_refused() {
        let bytes = example().encode().unwrap();
        let length = u32::from_le_bytes(*bytes.first_chunk().unwrap());
        for wrong in [length - 1, length + 1] {
            let mut changed = bytes.clone();
            changed.push(0);
            changed[..4].copy_from_slice(&wrong.to_le_bytes());
            assert_eq!(StartInfo::decode(&changed), Err(StartError::Malformed));
        }
    }

    #[test]
    fn more_arguments_than_the_pages_hold_are_refused() {
        let info = StartInfo {
            args: vec![0; START_BYTES_MAX],
            ..StartInfo::default()
        };
        assert_eq!(info.encode(), Err(StartError::TooLong));
        assert_eq!(StartInfo::decode(&[0xff; 8]), Err(StartError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
            bytes.append(&mut body);
            let heap = StartInfo::decode_heap(&bytes);
            if let Ok(info) = StartInfo::decode(&bytes) {
                prop_assert_eq!(heap, Ok(info.heap));
                prop_assert_eq!(StartInfo::decode(&info.encode().unwrap()), Ok(info));
            }
        }
    }
}
