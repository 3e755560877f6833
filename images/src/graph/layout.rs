//! Where boxes and arrows go: rows from the layering, order in a row by the neighbours' places.

use super::svg::{Line, Place};

const LINE_HEIGHT: i32 = 17;
const CHARACTER_WIDTH: i32 = 8;
const BOX_MARGIN: i32 = 12;
const SIDE_MARGIN: i32 = 40;
const TOP_MARGIN: i32 = 60;
const ROW_GAP: i32 = 90;
const COLUMN_GAP: i32 = 80;
const LEGEND_HEIGHT: i32 = 80;
/// Rounds of ordering; a manifest's graph is small and settles in two or three.
const ORDERING_ROUNDS: usize = 8;

/// A box to be placed.
pub struct Node {
    /// Class of the style sheet.
    pub class: &'static str,
    /// Its row, counted from the bottom.
    pub row: usize,
    /// Its text, the name first.
    pub lines: Vec<String>,
}

/// An arrow between two boxes.
#[derive(Debug)]
pub struct Edge {
    /// Index of the holder.
    pub from: usize,
    /// Index of what it holds.
    pub to: usize,
    /// What kind of capability.
    pub line: Line,
    /// A word beside it.
    pub label: String,
}

/// The placed boxes.
pub struct Layout {
    /// One for each node.
    pub places: Vec<Place>,
    /// Width of the drawing.
    pub width: i32,
    /// Height of the drawing.
    pub height: i32,
    /// Both ends of each edge, to keep arrows at one box apart.
    ends: Vec<(usize, usize)>,
}

impl Layout {
    /// Places `nodes`.
    pub fn new(nodes: &[Node], edges: &[Edge]) -> Self {
        let rows = ordered_rows(nodes, edges);
        let sizes: Vec<(i32, i32)> = nodes.iter().map(size).collect();
        let row_width = |row: &Vec<usize>| -> i32 {
            row.iter()
                .map(|node| sizes[*node].0 + COLUMN_GAP)
                .sum::<i32>()
                - COLUMN_GAP
        };
        let width = rows.iter().map(row_width).max().unwrap_or(0) + 2 * SIDE_MARGIN;
        let mut places = vec![Place::default(); nodes.len()];
        let mut y = TOP_MARGIN;
        for row in rows.iter().rev() {
            let mut x = (width - row_width(row)) / 2;
            let height = row.iter().map(|node| sizes[*node].1).max().unwrap_or(0);
            for node in row {
                let (box_width, box_height) = sizes[*node];
                places[*node] = Place {
                    x,
                    y,
                    width: box_width,
                    height: box_height,
                };
                x += box_width + COLUMN_GAP;
            }
            y += height + ROW_GAP;
        }
        let ends = edges.iter().map(|edge| (edge.from, edge.to)).collect();
        Self {
            places,
            width,
            height: y - ROW_GAP + LEGEND_HEIGHT,
            ends,
        }
    }

    /// The curve of the edge of that index, from the holder to the other box.
    pub fn path(&self, edge: usize) -> String {
        let [(x1, y1), (x2, y2)] = self.points(edge);
        let bend = (y2 - y1) / 2;
        format!(
            "M {x1} {y1} C {x1} {}, {x2} {}, {x2} {y2}",
            y1 + bend,
            y2 - bend
        )
    }

    /// Where the edge's word goes: at the middle of its curve.
    pub fn label(&self, edge: usize) -> (i32, i32) {
        let [(x1, y1), (x2, y2)] = self.points(edge);
        ((x1 + x2) / 2, (y1 + y2) / 2)
    }

    /// Both ends of an edge. All arrows that leave or enter one side of a box share it evenly,
    /// ordered by where they lead.
    fn points(&self, edge: usize) -> [(i32, i32); 2] {
        let (from, to) = self.ends[edge];
        let (a, b) = (self.places[from], self.places[to]);
        let down = a.y < b.y;
        let y1 = if down { a.y + a.height } else { a.y };
        let y2 = if down { b.y } else { b.y + b.height };
        [
            (self.slot(from, edge, down), y1),
            (self.slot(to, edge, !down), y2),
        ]
    }

    /// The x of `edge` at `node`, on its lower side or its upper side.
    fn slot(&self, node: usize, edge: usize, below: bool) -> i32 {
        let place = self.places[node];
        let far = |(index, &(from, to)): (usize, &(usize, usize))| {
            let other = match node {
                _ if from == node => to,
                _ if to == node => from,
                _ => return None,
            };
            let far = self.places[other];
            ((far.y > place.y) == below).then_some((far.x + far.width / 2, index))
        };
        let mut slots: Vec<_> = self.ends.iter().enumerate().filter_map(far).collect();
        slots.sort_unstable();
        let position = slots
            .iter()
            .position(|(_, index)| *index == edge)
            .unwrap_or(0) as i32;
        place.x + place.width * (position + 1) / (slots.len() as i32 + 1)
    }
}

fn size(node: &Node) -> (i32, i32) {
    let longest = node
        .lines
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0) as i32;
    let lines = node.lines.len() as i32;
    (
        longest * CHARACTER_WIDTH + 2 * BOX_MARGIN,
        lines * LINE_HEIGHT + 2 * BOX_MARGIN,
    )
}

/// The nodes of each row, each row ordered by the mean position of its neighbours elsewhere.
fn ordered_rows(nodes: &[Node], edges: &[Edge]) -> Vec<Vec<usize>> {
    let count = nodes.iter().map(|node| node.row + 1).max().unwrap_or(0);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (index, node) in nodes.iter().enumerate() {
        rows[node.row].push(index);
    }
    for _ in 0..ORDERING_ROUNDS {
        for row in 0..count {
            let positions = positions(&rows, nodes.len());
            let mean = |node: usize| mean_neighbour(node, edges, nodes, &positions);
            rows[row].sort_by(|a, b| mean(*a).total_cmp(&mean(*b)));
        }
    }
    rows
}

/// Where in its row each node stands, from -1 (left) to 1 (right).
fn positions(rows: &[Vec<usize>], count: usize) -> Vec<f64> {
    let mut positions = vec![0.0; count];
    for row in rows {
        for (place, node) in row.iter().enumerate() {
            positions[*node] = (2 * place + 1) as f64 / row.len() as f64 - 1.0;
        }
    }
    positions
}

fn mean_neighbour(node: usize, edges: &[Edge], nodes: &[Node], positions: &[f64]) -> f64 {
    let other = |edge: &Edge| match (edge.from == node, edge.to == node) {
        (true, false) => Some(edge.to),
        (false, true) => Some(edge.from),
        _ => None,
    };
    let others = edges
        .iter()
        .filter_map(other)
        .filter(|other| nodes[*other].row != nodes[node].row);
    let places: Vec<f64> = others.map(|other| positions[other]).collect();
    if places.is_empty() {
        return positions[node];
    }
    places.iter().sum::<f64>() / places.len() as f64
}
