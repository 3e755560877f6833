//! A small SVG writer: boxes with lines of text, arrows, a legend.

use std::fmt::Write;

const STYLE: &str = "
text { font: 13px sans-serif; fill: #222 }
.title { font-size: 20px; font-weight: bold }
.name { font-weight: bold; font-size: 15px }
.label { font-size: 11px; fill: #444; text-anchor: middle; paint-order: stroke; stroke: #fff; stroke-width: 4px }
rect { stroke: #555; rx: 6 }
.root { fill: #f6d9d5 } .program { fill: #dbe9f6 } .request { fill: #e4f1dc; stroke-dasharray: 5 3 } .device { fill: #eee }
path { fill: none; stroke-width: 1.6 }
.call { stroke: #1d4e89 } .channel { stroke: #3a7d44; stroke-dasharray: 7 4 } .log { stroke: #999; stroke-dasharray: 2 4 } .grant { stroke: #a23b2a }
";

/// From one word of the legend to the next, in pixels.
const LEGEND_STEP: usize = 190;
/// Width of the legend with its margins.
pub const LEGEND_WIDTH: i32 = 24 + (LEGEND_STEP * Line::ALL.len()) as i32;

/// What an arrow stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// An endpoint that the holder calls.
    Call,
    /// A shared-memory channel.
    Channel,
    /// A channel for log lines.
    Log,
    /// A device.
    Device,
}

impl Line {
    const ALL: [Self; 4] = [Self::Call, Self::Channel, Self::Log, Self::Device];

    fn class(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Channel => "channel",
            Self::Log => "log",
            Self::Device => "grant",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Call => "may call",
            Self::Channel => "shares a ring with",
            Self::Log => "logs to",
            Self::Device => "drives",
        }
    }
}

/// Where a box is, in pixels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Left edge.
    pub x: i32,
    /// Upper edge.
    pub y: i32,
    /// Width.
    pub width: i32,
    /// Height.
    pub height: i32,
}

impl Place {
    /// Whether two places have a point in common.
    pub fn touches(&self, other: &Self) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }
}

/// A drawing under construction.
pub struct Svg {
    text: String,
}

impl Svg {
    /// An empty drawing of this size.
    pub fn new(width: i32, height: i32) -> Self {
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
             <style>{STYLE}</style>\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
             <path d=\"M 0 0 L 8 4 L 0 8\" style=\"fill: #444\"/></marker></defs>\n"
        );
        text.push_str(
            "<rect width=\"100%\" height=\"100%\" style=\"fill: #fff; stroke: none\"/>\n",
        );
        Self { text }
    }

    /// A line of text.
    pub fn text(&mut self, x: i32, y: i32, class: &str, text: &str) {
        let text = escape(text);
        self.put(format_args!(
            "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{text}</text>"
        ));
    }

    /// A box with `lines`, the first of which is its name.
    pub fn node(&mut self, place: Place, class: &str, lines: &[String]) {
        let Place {
            x,
            y,
            width,
            height,
        } = place;
        self.put(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" class=\"{class}\"/>"
        ));
        for (line, offset) in lines.iter().zip((26..).step_by(17)) {
            let class = if offset == 26 { "name" } else { "detail" };
            self.text(x + 12, y + offset, class, line);
        }
    }

    /// An arrow along `path`.
    pub fn arrow(&mut self, path: &str, line: Line) {
        let class = line.class();
        self.put(format_args!(
            "<path d=\"{path}\" class=\"{class}\" marker-end=\"url(#tip)\"/>"
        ));
    }

    /// A word on an arrow.
    pub fn label(&mut self, x: i32, y: i32, text: &str) {
        self.text(x, y + 4, "label", text);
    }

    /// What the arrows mean, in a row at height `y`.
    pub fn legend(&mut self, y: i32) {
        for (line, x) in Line::ALL.into_iter().zip((24..).step_by(LEGEND_STEP)) {
            self.arrow(&format!("M {x} {y} L {} {y}", x + 40), line);
            self.text(x + 48, y + 4, "detail", line.meaning());
        }
    }

    /// The whole file.
    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{element}");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_markup() {
        let mut svg = Svg::new(10, 10);
        svg.text(0, 0, "detail", "a<b>&c");
        assert!(svg.finish().contains(">a&lt;b&gt;&amp;c</text>"));
    }
}
