//! The frame buffer that the boot loader set up.

use serde::{Deserialize, Serialize};

/// How its pixels lie. The program that drives a frame buffer is started with this as its
/// arguments and with the memory as region `<device>.memory`; without arguments and region there
/// is no screen. Pixels are direct colour: 8 bits each with blue lowest, or 5:6:5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bytes from one line to the next.
    pub pitch_bytes: u32,
    /// 16, 24 or 32.
    pub bits_per_pixel: u8,
}
