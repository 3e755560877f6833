//! Compression of blocks: which algorithms there are, and how each is framed in a block.
//!
//! ZFS calls this part `zio_compress`. Decompression takes untrusted bytes and either fills exactly the
//! logical size or fails. Compression gives up when it does not save an eighth.

mod lzjb;
mod zle;

use alloc::vec;
use alloc::vec::Vec;

use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER;

use crate::error::{Error, Structure, Unsupported};
use crate::layout::Fields;

const CORRUPT: Error = Error::Corrupt(Structure::Compressed);

/// How a block is compressed, with the numbers of the format in [`Compression::id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    Off,
    /// The oldest, a fast LZ with a 1 KiB window.
    Lzjb,
    /// All zero; nothing is stored.
    Empty,
    /// zlib, level 1 to 9.
    Gzip(u8),
    /// Runs of zeros only.
    Zle,
    /// LZ4: the default.
    Lz4,
    /// Zstandard, with the level's number in the property (1 to 19, above 100 for the fast ones).
    Zstd(u8),
}

/// The zstd level that the property value `zstd` means.
pub const ZSTD_DEFAULT_LEVEL: u8 = 3;

/// Version that OpenZFS 2.3 writes in a zstd block's header: zstd 1.4.5, as decimal digits.
const ZSTD_VERSION: u32 = 10405;
/// Bytes before a zstd frame: length, then version and level.
const ZSTD_HEADER: usize = 8;
/// The magic that the format leaves out.
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528u32.to_le_bytes();

impl Compression {
    /// The algorithm with this number in a block pointer. The level of zstd is in the block, not here.
    pub fn from_id(id: u8) -> Result<Self, Error> {
        Ok(match id {
            2 => Compression::Off,
            3 => Compression::Lzjb,
            4 => Compression::Empty,
            5..=13 => Compression::Gzip(id - 4),
            14 => Compression::Zle,
            15 => Compression::Lz4,
            16 => Compression::Zstd(ZSTD_DEFAULT_LEVEL),
            _ => return Err(Error::Unsupported(Unsupported::Compression(id))),
        })
    }

    /// The number in a block pointer.
    pub fn id(self) -> u8 {
        match self {
            Compression::Off => 2,
            Compression::Lzjb => 3,
            Compression::Empty => 4,
            Compression::Gzip(level) => 4 + level,
            Compression::Zle => 14,
            Compression::Lz4 => 15,
            Compression::Zstd(_) => 16,
        }
    }

    /// Expands `data` to exactly `size` bytes.
    pub fn decompress(self, data: &[u8], size: usize) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; size];
        match self {
            Compression::Off => out.copy_from_slice(data.get(..size).ok_or(CORRUPT)?),
            Compression::Empty => {}
            Compression::Lzjb => lzjb::decompress(data, &mut out).ok_or(CORRUPT)?,
            Compression::Zle => zle::decompress(data, &mut out).ok_or(CORRUPT)?,
            Compression::Gzip(_) => inflate(data, &mut out)?,
            Compression::Lz4 => {
                let block = prefixed(data, 4)?;
                let written =
                    lz4_flex::block::decompress_into(block, &mut out).map_err(|_| CORRUPT)?;
                exactly(written, size)?;
            }
            Compression::Zstd(_) => {
                let mut frame = Vec::from(ZSTD_MAGIC);
                frame.extend_from_slice(prefixed(data, ZSTD_HEADER)?);
                let mut decoder = ruzstd::decoding::FrameDecoder::new();
                let written = decoder.decode_all(&frame, &mut out).map_err(|_| CORRUPT)?;
                exactly(written, size)?;
            }
        }
        Ok(out)
    }

    /// Compresses to at most `limit` bytes, without padding; `None` when it does not fit.
    pub fn compress(self, data: &[u8], limit: usize) -> Option<Vec<u8>> {
        let out = match self {
            Compression::Off | Compression::Empty => return None,
            Compression::Lzjb => lzjb::compress(data, limit)?,
            Compression::Zle => zle::compress(data, limit)?,
            Compression::Gzip(level) => miniz_oxide::deflate::compress_to_vec_zlib(data, level),
            Compression::Lz4 => {
                let mut out = vec![0; 4 + lz4_flex::block::get_maximum_output_size(data.len())];
                let length = lz4_flex::block::compress_into(data, &mut out[4..]).ok()?;
                out[..4].copy_from_slice(&(length as u32).to_be_bytes());
                out.truncate(4 + length);
                out
            }
            Compression::Zstd(level) => {
                let frame = ruzstd::encoding::compress_to_vec(
                    data,
                    ruzstd::encoding::CompressionLevel::Fastest,
                );
                let body = frame.strip_prefix(&ZSTD_MAGIC)?;
                let mut out = Vec::with_capacity(ZSTD_HEADER + body.len());
                out.extend((body.len() as u32).to_be_bytes());
                out.extend((ZSTD_VERSION << 8 | u32::from(level)).to_be_bytes());
                out.extend_from_slice(body);
                out
            }
        };
        (out.len() <= limit).then_some(out)
    }
}

/// The payload after a header of `header` bytes whose first four are the payload's length.
fn prefixed(data: &[u8], header: usize) -> Result<&[u8], Error> {
    let length = data.u32_at(0).ok_or(CORRUPT)?.swap_bytes() as usize;
    data.bytes_at(header, length).ok_or(CORRUPT)
}

fn exactly(written: usize, size: usize) -> Result<(), Error> {
    if written == size {
        Ok(())
    } else {
        Err(CORRUPT)
    }
}

fn inflate(data: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let mut state = miniz_oxide::inflate::core::DecompressorOxide::new();
    let flags = TINFL_FLAG_PARSE_ZLIB_HEADER
        | miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, written) =
        miniz_oxide::inflate::core::decompress(&mut state, data, out, 0, flags);
    if status != miniz_oxide::inflate::TINFLStatus::Done {
        return Err(CORRUPT);
    }
    exactly(written, out.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Compression; 7] = [
        Compression::Lzjb,
        Compression::Gzip(1),
        Compression::Gzip(6),
        Compression::Gzip(9),
        Compression::Zle,
        Compression::Lz4,
        Compression::Zstd(3),
    ];

    fn sample(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed | 1;
        let mut data = Vec::with_capacity(length);
        while data.len() < length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let run = (state >> 20) as usize % 40;
            let byte = if state & 0x100 == 0 {
                0
            } else {
                (state >> 10) as u8 % 5
            };
            data.extend(core::iter::repeat_n(byte, run));
        }
        data.truncate(length);
        data
    }

    #[test]
    fn every_algorithm_restores_what_it_compressed() {
        for kind in ALL {
            for length in [512, 4096, 131_072] {
                let data = sample(length, length as u32);
                let packed = kind
                    .compress(&data, length - length / 8)
                    .unwrap_or_else(|| panic!("{kind:?} {length}"));
                // Blocks are padded with zeros to whole sectors.
                let mut padded = packed.clone();
                padded.resize(packed.len().next_multiple_of(512), 0);
                assert_eq!(
                    kind.decompress(&padded, length),
                    Ok(data),
                    "{kind:?} {length}"
                );
            }
        }
    }

    #[test]
    fn noise_is_not_worth_compressing() {
        let mut state = 1u64;
        let noise: Vec<u8> = core::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(4096)
        .collect();
        for kind in ALL {
            assert_eq!(kind.compress(&noise, 4096 - 512), None, "{kind:?}");
        }
    }

    #[test]
    fn numbers_and_algorithms_agree() {
        for id in 2..=16 {
            assert_eq!(Compression::from_id(id).unwrap().id(), id);
        }
        assert_eq!(
            Compression::from_id(17),
            Err(Error::Unsupported(Unsupported::Compression(17)))
        );
    }

    proptest! {
        #[test]
        fn damaged_input_never_panics(seed: u32, flips in proptest::collection::vec((0usize..4096, any::<u8>()), 1..6)) {
            let data = sample(4096, seed);
            for kind in ALL {
                let Some(mut packed) = kind.compress(&data, 4096) else { continue };
                for (at, value) in &flips {
                    let at = at % packed.len();
                    packed[at] = *value;
                }
                if let Ok(out) = kind.decompress(&packed, 4096) {
                    prop_assert_eq!(out.len(), 4096);
                }
            }
        }
    }
}
