//! What the kernel says of the machine: the BootInfo records, checked and as values.

use proto::boot::Screen;
use proto::root::Virtualisation;
use sel4_sys::boot_info::{ExtraRecord, extra_records, virtualisation};

/// Most bytes of a pixel line and most lines: what [`crate::layout`] has room for.
const PITCH_MAX: u32 = 1 << 14;
const HEIGHT_MAX: u32 = 1 << 12;
/// Length of the ACPI root pointer in its record.
pub const RSDP_BYTES: usize = 36;
/// Offset of the first colour depth in a frame buffer record: address, pitch, width, height.
const DEPTH_OFFSET: usize = 20;

/// A boot module after the root task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// Physical address.
    pub paddr: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The frame buffer that the boot loader set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framebuffer {
    /// Physical address.
    pub paddr: u64,
    /// Its pixels.
    pub screen: Screen,
}

impl Framebuffer {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.screen.pitch_bytes as u64 * self.screen.height as u64
    }
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The boot archive, if there is one.
    pub archive: Option<Module>,
    /// How guests run.
    pub virtualisation: Virtualisation,
    /// Ticks of the time-stamp counter in a millisecond.
    pub tsc_khz: u64,
    /// CPUs.
    pub cpus: u16,
    /// The frame buffer.
    pub framebuffer: Option<Framebuffer>,
    /// The ACPI root pointer.
    pub rsdp: Option<[u8; RSDP_BYTES]>,
}

impl Machine {
    /// The machine that the records behind the BootInfo page describe. `cpus` is the number of
    /// nodes in the page itself.
    #[must_use]
    pub fn read(records: &[u8], cpus: u64) -> Self {
        let mut machine = Self {
            archive: None,
            virtualisation: Virtualisation::None,
            tsc_khz: 0,
            cpus: u16::try_from(cpus).unwrap_or(u16::MAX).max(1),
            framebuffer: None,
            rsdp: None,
        };
        for (id, body) in extra_records(records) {
            match ExtraRecord::try_from(id) {
                Ok(ExtraRecord::Modules) => machine.archive = module(body),
                Ok(ExtraRecord::Machine) => {
                    machine.virtualisation = match word(body, 0) {
                        Some(virtualisation::SVM) => Virtualisation::Svm,
                        Some(virtualisation::VMX) => Virtualisation::Vmx,
                        _ => Virtualisation::None,
                    };
                    machine.tsc_khz = word(body, 8).unwrap_or(0);
                }
                Ok(ExtraRecord::Framebuffer) => machine.framebuffer = framebuffer(body),
                Ok(ExtraRecord::X86AcpiRsdp) => machine.rsdp = body.first_chunk().copied(),
                _ => {}
            }
        }
        machine
    }
}

fn module(body: &[u8]) -> Option<Module> {
    let module = Module {
        paddr: word(body, 0)?,
        bytes: word(body, 8)?,
    };
    let aligned = module.paddr.is_multiple_of(4096) && module.bytes > 0;
    (aligned && module.paddr.checked_add(module.bytes).is_some()).then_some(module)
}

fn framebuffer(body: &[u8]) -> Option<Framebuffer> {
    let double = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let screen = Screen {
        pitch_bytes: double(8)?,
        width: double(12)?,
        height: double(16)?,
        bits_per_pixel: *body.get(DEPTH_OFFSET)?,
    };
    let direct_colour = body.get(DEPTH_OFFSET + 1) == Some(&1);
    let possible = (1..=PITCH_MAX).contains(&screen.pitch_bytes)
        && (1..=HEIGHT_MAX).contains(&screen.height)
        && direct_colour;
    let paddr = word(body, 0)?;
    (possible && paddr < 1 << 46).then_some(Framebuffer { paddr, screen })
}

fn word(body: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(id: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = id.to_le_bytes().to_vec();
        bytes.extend((16 + body.len() as u64).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn records_become_values() {
        let mut screen = words(&[0xfd00_0000]);
        screen.extend(
            [4096_u32, 1024, 768]
                .iter()
                .flat_map(|word| word.to_le_bytes()),
        );
        screen.extend([32, 1]);
        let records = [
            record(0x5445_0001, &words(&[0x20_0000, 5000])),
            record(0x5445_0002, &words(&[1, 2_000_000, 2, 0, 7])),
            record(0x5445_0003, &screen),
            record(3, &[7; 36]),
        ]
        .concat();
        let machine = Machine::read(&records, 2);
        assert_eq!(
            machine.archive,
            Some(Module {
                paddr: 0x20_0000,
                bytes: 5000
            })
        );
        assert_eq!(
            (machine.virtualisation, machine.tsc_khz),
            (Virtualisation::Svm, 2_000_000)
        );
        assert_eq!(machine.cpus, 2);
        assert_eq!(machine.framebuffer.unwrap().bytes(), 4096 * 768);
        assert_eq!(machine.rsdp, Some([7; 36]));
    }

    #[test]
    fn a_text_screen_and_an_impossible_one_are_none() {
        let mut text = words(&[0xb_8000]);
        text.extend([160_u32, 80, 25].iter().flat_map(|word| word.to_le_bytes()));
        text.extend([16, 2]);
        assert_eq!(
            Machine::read(&record(0x5445_0003, &text), 1).framebuffer,
            None
        );
        let huge = [0xff; 22];
        assert_eq!(
            Machine::read(&record(0x5445_0003, &huge), 1).framebuffer,
            None
        );
    }

    proptest! {
        #[test]
        fn any_records_are_read(body in prop::collection::vec(any::<u8>(), 0..60), id in 0u64..4) {
            let machine = Machine::read(&record(0x5445_0000 + id, &body), 1);
            prop_assert_eq!(machine.cpus, 1);
        }
    }
}
