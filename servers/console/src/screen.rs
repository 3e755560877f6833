//! Draws a [`Grid`] into a linear framebuffer.
//!
//! Owns the mapping from cells to pixels and what is on the screen already, so that only cells that
//! changed are drawn: writes to a framebuffer are slow, and a scroll changes fewer cells than pixels. The
//! memory itself is an argument ([`Surface`]), so that the host can look at what was drawn.

use alloc::vec;
use alloc::vec::Vec;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::grid::{Cell, DEFAULT_BACKGROUND, DEFAULT_FOREGROUND, Grid};

/// Where pixels go.
pub trait Surface {
    /// Stores `bytes` at `offset` from the start of the framebuffer. Beyond its end nothing happens.
    fn write(&mut self, offset: usize, bytes: &[u8]);
}

/// How pixels lie in memory. The numbers come from the boot loader and are checked by [`Screen::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelLayout {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bytes from one line to the next.
    pub pitch_bytes: u32,
    /// 16, 24 or 32.
    pub bits_per_pixel: u8,
    /// Position of the lowest bit and number of bits of red, green and blue.
    pub channels: [(u8, u8); 3],
}

/// A layout this program cannot draw in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// Bits per pixel other than 16, 24 and 32.
    Depth,
    /// A colour channel outside the pixel.
    Channel,
    /// A line that is longer than its pitch, or a screen too small for one character.
    Size,
}

const FONT: (FontWeight, RasterHeight) = (FontWeight::Regular, RasterHeight::Size16);
const GLYPH_WIDTH: usize = get_raster_width(FONT.0, FONT.1);
const GLYPH_HEIGHT: usize = FONT.1.val();
/// Bytes of the largest pixel.
const MAX_PIXEL_BYTES: usize = 4;
/// Columns and rows are capped so that a wrong layout cannot ask for gigabytes of cells.
const MAX_COLUMNS: usize = 512;
const MAX_ROWS: usize = 256;

/// The VGA text palette: what PC consoles have looked like since the CGA.
const PALETTE: [[u8; 3]; 16] = [
    [0x00, 0x00, 0x00],
    [0xaa, 0x00, 0x00],
    [0x00, 0xaa, 0x00],
    [0xaa, 0x55, 0x00],
    [0x00, 0x00, 0xaa],
    [0xaa, 0x00, 0xaa],
    [0x00, 0xaa, 0xaa],
    [0xaa, 0xaa, 0xaa],
    [0x55, 0x55, 0x55],
    [0xff, 0x55, 0x55],
    [0x55, 0xff, 0x55],
    [0xff, 0xff, 0x55],
    [0x55, 0x55, 0xff],
    [0xff, 0x55, 0xff],
    [0x55, 0xff, 0xff],
    [0xff, 0xff, 0xff],
];

/// The framebuffer as a grid of characters.
#[derive(Debug)]
pub struct Screen {
    layout: PixelLayout,
    columns: usize,
    rows: usize,
    /// What was drawn in each cell; `None` before the first time.
    drawn: Vec<Option<Cell>>,
}

impl Screen {
    /// A screen with as many characters as fit.
    ///
    /// # Errors
    /// [`LayoutError`] if pixels of this layout cannot be drawn.
    pub fn new(layout: PixelLayout) -> Result<Self, LayoutError> {
        if !matches!(layout.bits_per_pixel, 16 | 24 | 32) {
            return Err(LayoutError::Depth);
        }
        let inside = |&(position, bits): &(u8, u8)| {
            (1..=8).contains(&bits) && u16::from(position) + u16::from(bits) <= 32
        };
        if !layout.channels.iter().all(inside) {
            return Err(LayoutError::Channel);
        }
        let pixel_bytes = u64::from(layout.bits_per_pixel / 8);
        if u64::from(layout.width) * pixel_bytes > u64::from(layout.pitch_bytes) {
            return Err(LayoutError::Size);
        }
        let columns = (layout.width as usize / GLYPH_WIDTH).min(MAX_COLUMNS);
        let rows = (layout.height as usize / GLYPH_HEIGHT).min(MAX_ROWS);
        if columns == 0 || rows == 0 {
            return Err(LayoutError::Size);
        }
        Ok(Self {
            layout,
            columns,
            rows,
            drawn: vec![None; columns * rows],
        })
    }

    /// Columns and rows of characters.
    pub fn size(&self) -> (usize, usize) {
        (self.columns, self.rows)
    }

    /// Brings the screen up to date with `grid`. Rows that did not change are not looked at.
    pub fn draw(&mut self, grid: &mut Grid, surface: &mut impl Surface) {
        let cursor = grid.cursor();
        for row in 0..self.rows {
            if !grid.take_changed(row) {
                continue;
            }
            for (column, &cell) in grid.row(row).iter().take(self.columns).enumerate() {
                let shown = if cursor == Some((row, column)) {
                    Cell {
                        foreground: DEFAULT_BACKGROUND,
                        background: DEFAULT_FOREGROUND,
                        ..cell
                    }
                } else {
                    cell
                };
                let drawn = &mut self.drawn[row * self.columns + column];
                if *drawn != Some(shown) {
                    *drawn = Some(shown);
                    self.glyph(row, column, shown, surface);
                }
            }
        }
    }

    fn glyph(&self, row: usize, column: usize, cell: Cell, surface: &mut impl Surface) {
        let raster = get_raster(cell.character, FONT.0, FONT.1)
            .or_else(|| get_raster(substitute(cell.character), FONT.0, FONT.1));
        let pixel_bytes = usize::from(self.layout.bits_per_pixel / 8);
        let pitch = self.layout.pitch_bytes as usize;
        let left = column * GLYPH_WIDTH * pixel_bytes;
        let mut line = [0; GLYPH_WIDTH * MAX_PIXEL_BYTES];
        for y in 0..GLYPH_HEIGHT {
            for x in 0..GLYPH_WIDTH {
                let intensity = raster.as_ref().and_then(|raster| raster.pixel(x, y));
                let pixel = self.pixel(cell, intensity.unwrap_or(0));
                line[x * pixel_bytes..][..pixel_bytes].copy_from_slice(&pixel[..pixel_bytes]);
            }
            let offset = (row * GLYPH_HEIGHT + y) * pitch + left;
            surface.write(offset, &line[..GLYPH_WIDTH * pixel_bytes]);
        }
    }

    /// The bytes of a pixel that lies `intensity` / 255 of the way from background to foreground.
    fn pixel(&self, cell: Cell, intensity: u8) -> [u8; MAX_PIXEL_BYTES] {
        let behind = PALETTE[usize::from(cell.background & 15)];
        let ink = PALETTE[usize::from(cell.foreground & 15)];
        let mut pixel = 0u32;
        for (channel, &(position, bits)) in self.layout.channels.iter().enumerate() {
            let share = u32::from(intensity);
            let mixed = (u32::from(ink[channel]) * share
                + u32::from(behind[channel]) * (255 - share))
                / 255;
            pixel |= (mixed >> (8 - bits)) << position;
        }
        pixel.to_le_bytes()
    }
}

/// What stands for a character that the font lacks: line drawing as ASCII, anything else as the
/// replacement character.
fn substitute(character: char) -> char {
    match character {
        '\u{2500}' | '\u{2501}' | '\u{2550}' => '-',
        '\u{2502}' | '\u{2503}' | '\u{2551}' => '|',
        '\u{250c}'..='\u{254b}' | '\u{2552}'..='\u{256c}' => '+',
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        '\u{2013}' | '\u{2014}' => '-',
        '\u{2026}' => '_',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Surface for Vec<u8> {
        fn write(&mut self, offset: usize, bytes: &[u8]) {
            self[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    const RGB32: PixelLayout = PixelLayout {
        width: 80,
        height: 64,
        pitch_bytes: 336,
        bits_per_pixel: 32,
        channels: [(16, 8), (8, 8), (0, 8)],
    };

    fn memory(layout: PixelLayout) -> Vec<u8> {
        vec![0x5a; (layout.pitch_bytes * layout.height) as usize]
    }

    fn draw(layout: PixelLayout, text: &[u8]) -> Vec<u8> {
        let mut screen = Screen::new(layout).unwrap();
        let (columns, rows) = screen.size();
        let mut grid = Grid::new(columns, rows);
        grid.write(text);
        let mut surface = memory(layout);
        screen.draw(&mut grid, &mut surface);
        surface
    }

    /// The brightest red among the pixels of a cell.
    fn red(surface: &[u8], row: usize, column: usize) -> u8 {
        (0..GLYPH_HEIGHT * GLYPH_WIDTH)
            .map(|at| {
                let (y, x) = (
                    row * GLYPH_HEIGHT + at / GLYPH_WIDTH,
                    column * GLYPH_WIDTH + at % GLYPH_WIDTH,
                );
                surface[y * 336 + x * 4 + 2]
            })
            .max()
            .unwrap()
    }

    #[test]
    fn text_is_drawn_where_it_belongs() {
        let surface = draw(RGB32, b"\x1b[?25l\x1b[2;3HW\x1b[91mW");
        assert_eq!(red(&surface, 0, 2), 0);
        assert_eq!(red(&surface, 1, 1), 0);
        assert!((0x80..=0xaa).contains(&red(&surface, 1, 2)));
        assert!(red(&surface, 1, 3) > 0xaa, "bright red");
        let padding = &surface[320..336];
        assert!(padding.iter().all(|&byte| byte == 0x5a), "beyond the line");
    }

    #[test]
    fn the_cursor_is_a_block() {
        let surface = draw(RGB32, b"ab\x1b[2;1H");
        assert_eq!(surface[16 * 336 + 2], 0xaa);
    }

    #[test]
    fn cells_that_did_not_change_are_not_drawn_again() {
        struct Count(usize);
        impl Surface for Count {
            fn write(&mut self, _: usize, _: &[u8]) {
                self.0 += 1;
            }
        }
        let mut screen = Screen::new(RGB32).unwrap();
        let (columns, rows) = screen.size();
        let mut grid = Grid::new(columns, rows);
        let mut surface = Count(0);
        screen.draw(&mut grid, &mut surface);
        assert_eq!(surface.0, columns * rows * GLYPH_HEIGHT);
        surface.0 = 0;
        grid.write(b"x");
        screen.draw(&mut grid, &mut surface);
        assert_eq!(surface.0, 2 * GLYPH_HEIGHT, "the character and the cursor");
    }

    #[test]
    fn every_depth_packs_its_pixels() {
        let sixteen = PixelLayout {
            pitch_bytes: 160,
            bits_per_pixel: 16,
            channels: [(11, 5), (5, 6), (0, 5)],
            ..RGB32
        };
        let surface = draw(sixteen, b"\x1b[?25l\x1b[107m ");
        assert_eq!(surface[..2], [0xff, 0xff]);
        let twenty_four = PixelLayout {
            pitch_bytes: 240,
            bits_per_pixel: 24,
            ..RGB32
        };
        let surface = draw(twenty_four, b"\x1b[?25l\x1b[41m ");
        assert_eq!(surface[..6], [0, 0, 0xaa, 0, 0, 0xaa]);
    }

    #[test]
    fn layouts_that_cannot_be_drawn_are_refused() {
        let refused = |layout| Screen::new(layout).err();
        assert_eq!(
            refused(PixelLayout {
                bits_per_pixel: 8,
                ..RGB32
            }),
            Some(LayoutError::Depth)
        );
        assert_eq!(
            refused(PixelLayout {
                channels: [(30, 8), (8, 8), (0, 8)],
                ..RGB32
            }),
            Some(LayoutError::Channel)
        );
        assert_eq!(
            refused(PixelLayout {
                pitch_bytes: 319,
                ..RGB32
            }),
            Some(LayoutError::Size)
        );
        assert_eq!(
            refused(PixelLayout {
                height: 15,
                ..RGB32
            }),
            Some(LayoutError::Size)
        );
    }

    proptest! {
        #[test]
        fn every_accepted_layout_is_drawn_inside_its_memory(
            width in 0u32..200,
            height in 0u32..100,
            pitch_bytes in 0u32..900,
            bits_per_pixel in proptest::sample::select(&[8u8, 16, 24, 32][..]),
            position in 0u8..40,
            bits in 0u8..12,
        ) {
            let layout = PixelLayout {
                width,
                height,
                pitch_bytes,
                bits_per_pixel,
                channels: [(position, bits); 3],
            };
            if Screen::new(layout).is_ok() {
                draw(layout, "Tessera \u{2500}\u{1f600}".as_bytes());
            }
        }
    }
}
