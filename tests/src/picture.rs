//! Reads the text back from a picture of the screen, with the font that the console draws in.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use std::path::Path;

const FONT: (FontWeight, RasterHeight) = (FontWeight::Regular, RasterHeight::Size16);
const GLYPH_WIDTH: usize = get_raster_width(FONT.0, FONT.1);
const GLYPH_HEIGHT: usize = FONT.1.val();
/// Intensities of the palette's colours in the channel where they are brightest.
const INKS: [u32; 3] = [0xaa, 0xff, 0x55];
/// How far a pixel may be from the font's: rounding, and screens of five bits a channel.
const TOLERANCE: u32 = 10;
/// What stands for a cell that shows no character of the font.
const UNREADABLE: char = char::REPLACEMENT_CHARACTER;

/// A picture of the screen: the brightest channel of each pixel, line after line.
#[derive(Debug)]
pub struct Picture {
    width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads the picture at `file`, in the form PPM (`P6`, width, height, 255, then three bytes a pixel).
    ///
    /// # Errors
    /// A sentence, when the file cannot be read or has another form.
    pub fn read(file: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Self::parse(&bytes).ok_or_else(|| format!("{}: no PPM", file.display()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut word = || {
            let end = rest.iter().position(u8::is_ascii_whitespace)?;
            let (word, after) = rest.split_at(end);
            rest = &after[1..];
            std::str::from_utf8(word).ok()
        };
        let (form, width, height, most) = (word()?, word()?, word()?, word()?);
        let (width, height): (usize, usize) = (width.parse().ok()?, height.parse().ok()?);
        let whole = rest.len() == width.checked_mul(height)?.checked_mul(3)?;
        if form != "P6" || most != "255" || !whole {
            return None;
        }
        let brightest = |pixel: &[u8]| pixel.iter().copied().max().unwrap_or(0);
        let pixels = rest.chunks_exact(3).map(brightest).collect();
        Some(Self { width, pixels })
    }

    /// The text on the screen, line by line, without blanks at the ends. The cursor, and whatever is no
    /// character of the font, is the replacement character.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let rows = self.pixels.len() / self.width.max(1) / GLYPH_HEIGHT;
        let columns = self.width / GLYPH_WIDTH;
        let line = |row| {
            let cells = (0..columns).map(|column| self.character(row, column));
            let line: String = cells.collect();
            line.trim_end().to_owned()
        };
        (0..rows).map(line).collect()
    }

    /// The character that a cell shows.
    fn character(&self, row: usize, column: usize) -> char {
        let mut characters = (' '..='~').filter(|&character| {
            let mut inks = INKS.iter();
            inks.any(|&ink| self.shows(row, column, character, ink))
        });
        characters.next().unwrap_or(UNREADABLE)
    }

    /// Whether a cell shows the character in ink of that brightness on black.
    fn shows(&self, row: usize, column: usize, character: char, ink: u32) -> bool {
        let Some(raster) = get_raster(character, FONT.0, FONT.1) else {
            return false;
        };
        (0..GLYPH_HEIGHT).all(|y| {
            let start = (row * GLYPH_HEIGHT + y) * self.width + column * GLYPH_WIDTH;
            let shown = &self.pixels[start..start + GLYPH_WIDTH];
            shown.iter().enumerate().all(|(x, &pixel)| {
                let intensity = raster.pixel(x, y).unwrap_or(0);
                (u32::from(intensity) * ink / 255).abs_diff(u32::from(pixel)) <= TOLERANCE
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of one line of text.
    fn picture(text: &str, ink: u32) -> Vec<u8> {
        let width = text.chars().count() * GLYPH_WIDTH;
        let mut bytes = format!("P6\n{width} {GLYPH_HEIGHT}\n255\n").into_bytes();
        for y in 0..GLYPH_HEIGHT {
            for character in text.chars() {
                let raster = get_raster(character, FONT.0, FONT.1).expect("in the font");
                for x in 0..GLYPH_WIDTH {
                    let intensity = raster.pixel(x, y).expect("in the glyph");
                    let red = (u32::from(intensity) * ink / 255) as u8;
                    bytes.extend([red, red / 2, 0]);
                }
            }
        }
        bytes
    }

    #[test]
    fn what_was_drawn_is_read_back() {
        for text in ["tessera# echo Il1|", "O0o .,:;'`\"~_-"] {
            for ink in INKS {
                let picture = Picture::parse(&picture(text, ink)).expect("a picture");
                assert_eq!(picture.lines(), [text]);
            }
        }
    }

    #[test]
    fn a_smear_is_no_character() {
        let mut bytes = picture("ab", 0xaa);
        let last = bytes.len() - 3;
        bytes[last] = 0xff;
        let picture = Picture::parse(&bytes).expect("a picture");
        assert_eq!(picture.lines(), ["a\u{fffd}"]);
    }

    #[test]
    fn a_file_of_another_form_is_refused() {
        let bytes = picture("ab", 0xaa);
        assert!(Picture::parse(&bytes[..bytes.len() - 1]).is_none());
        assert!(Picture::parse(b"P5\n1 1\n255\n...").is_none());
        assert!(Picture::parse(b"").is_none());
    }
}
