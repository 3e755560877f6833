//! Segment registers: bases, limits and rights, and the step from an offset to a linear address.
//!
//! Attributes are in VMX's access-rights format, which docs/abi.md uses for both vendors.
//! Source: Intel SDM volume 3, sections 3.4 and 5.3.

use sel4_sys::vcpu_field::segment_attributes;

use crate::event::GuestException;
use crate::mode::CpuMode;
use crate::paging::{Intent, is_canonical};
use crate::vcpu::{SegmentName, Vcpu};

/// A loaded segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Linear base.
    pub base: u64,
    /// Limit in bytes, granularity applied.
    pub limit: u64,
    /// Access rights (docs/abi.md, fields 24..31).
    pub attributes: u64,
}

const TYPE_WRITABLE: u64 = 1 << 1;
const TYPE_EXPAND_DOWN: u64 = 1 << 2;
const TYPE_CODE: u64 = 1 << 3;

/// Gives segment registers on demand: most exits need none.
pub trait SegmentSource {
    /// The segment register `name`.
    fn segment(&mut self, name: SegmentName) -> Segment;
}

impl<V: Vcpu> SegmentSource for V {
    fn segment(&mut self, name: SegmentName) -> Segment {
        let fields = [name.base(), name.limit(), name.attributes()];
        let [base, limit, attributes] = self.read_fields(fields);
        Segment {
            base,
            limit,
            attributes,
        }
    }
}

/// An access through a segment.
#[derive(Clone, Copy, Debug)]
pub struct SegmentAccess {
    /// Through which segment register.
    pub name: SegmentName,
    /// Offset in it.
    pub offset: u64,
    /// Bytes, at least one.
    pub length: u64,
    /// What for.
    pub intent: Intent,
}

impl SegmentAccess {
    /// The linear address, after the checks that the mode asks for.
    ///
    /// # Errors
    /// #GP(0), or #SS(0) through SS.
    pub fn linear(
        self,
        mode: &CpuMode,
        source: &mut dyn SegmentSource,
    ) -> Result<u64, GuestException> {
        if mode.is_64_bit() {
            let base = match self.name {
                SegmentName::Fs | SegmentName::Gs => source.segment(self.name).base,
                _ => 0,
            };
            let linear = base.wrapping_add(self.offset);
            let last = linear.wrapping_add(self.length - 1);
            return if is_canonical(linear) && is_canonical(last) {
                Ok(linear)
            } else {
                Err(self.refusal())
            };
        }
        let segment = source.segment(self.name);
        if !self.is_allowed(mode, segment) {
            return Err(self.refusal());
        }
        Ok(segment.base.wrapping_add(self.offset) & 0xffff_ffff)
    }

    fn is_allowed(self, mode: &CpuMode, segment: Segment) -> bool {
        let last = self.offset.saturating_add(self.length - 1);
        let kind = segment.attributes;
        if mode.is_protected() && !mode.is_real_like() {
            let is_code = kind & TYPE_CODE != 0;
            let readable = !is_code || kind & TYPE_WRITABLE != 0;
            let writable = !is_code && kind & TYPE_WRITABLE != 0;
            let permitted = match self.intent {
                Intent::Write => writable,
                Intent::Read | Intent::Fetch => readable,
            };
            if kind & segment_attributes::UNUSABLE != 0 || !permitted {
                return false;
            }
            if !is_code && kind & TYPE_EXPAND_DOWN != 0 {
                let top = if kind & segment_attributes::DEFAULT_32 != 0 {
                    0xffff_ffff
                } else {
                    0xffff
                };
                return self.offset > segment.limit && last <= top;
            }
        }
        last <= segment.limit
    }

    fn refusal(self) -> GuestException {
        match self.name {
            SegmentName::Ss => GuestException::StackFault(0),
            _ => GuestException::GeneralProtection(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mode::{CR0_PE, EFER_LMA};
    use libcap::vcpu::ExitRecord;
    use sel4_sys::vcpu::{exit, exit_mode};

    struct Fixed(Segment);

    impl SegmentSource for Fixed {
        fn segment(&mut self, _name: SegmentName) -> Segment {
            self.0
        }
    }

    fn protected() -> CpuMode {
        let mut words = [0; exit::LENGTH];
        words[exit::CR0] = CR0_PE;
        words[exit::MODE] = exit_mode::CS_DEFAULT_32;
        CpuMode::of(&ExitRecord::from_words(words))
    }

    fn access(offset: u64, intent: Intent) -> SegmentAccess {
        SegmentAccess {
            name: SegmentName::Ds,
            offset,
            length: 4,
            intent,
        }
    }

    #[test]
    fn an_access_past_the_limit_is_a_protection_fault() {
        let mut data = Fixed(Segment {
            base: 0x1_0000,
            limit: 0xfff,
            attributes: 0x93,
        });
        let mode = protected();
        assert_eq!(
            access(0xffc, Intent::Write).linear(&mode, &mut data),
            Ok(0x1_0ffc)
        );
        assert_eq!(
            access(0xffd, Intent::Read).linear(&mode, &mut data),
            Err(GuestException::GeneralProtection(0))
        );
    }

    #[test]
    fn a_code_segment_is_not_written() {
        let mut code = Fixed(Segment {
            base: 0,
            limit: 0xffff_ffff,
            attributes: 0x9b,
        });
        let mode = protected();
        assert!(access(0, Intent::Read).linear(&mode, &mut code).is_ok());
        assert!(access(0, Intent::Write).linear(&mode, &mut code).is_err());
    }

    #[test]
    fn an_expand_down_segment_allows_what_lies_above_its_limit() {
        let mut stack = Fixed(Segment {
            base: 0,
            limit: 0xfff,
            attributes: 0x97 | segment_attributes::DEFAULT_32,
        });
        let mode = protected();
        assert!(
            access(0x1000, Intent::Write)
                .linear(&mode, &mut stack)
                .is_ok()
        );
        assert!(
            access(0xfff, Intent::Write)
                .linear(&mode, &mut stack)
                .is_err()
        );
    }

    #[test]
    fn long_mode_ignores_limits_but_not_canonical_form() {
        let mut words = [0; exit::LENGTH];
        words[exit::EFER] = EFER_LMA;
        words[exit::MODE] = exit_mode::CS_LONG;
        let mode = CpuMode::of(&ExitRecord::from_words(words));
        let mut none = Fixed(Segment {
            base: 0x77,
            limit: 0,
            attributes: 0,
        });
        assert_eq!(
            access(0x1234, Intent::Read).linear(&mode, &mut none),
            Ok(0x1234)
        );
        assert!(
            access(1 << 47, Intent::Read)
                .linear(&mode, &mut none)
                .is_err()
        );
    }
}
