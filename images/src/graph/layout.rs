//! Where boxes, arrows and words go: rows from the layering, order in a row by the neighbours' places.
//!
//! An arrow that passes a row has a place of its own in it, between the boxes, so no arrow runs
//! behind a box; and between rows there is nothing but arrows and their words.

use super::svg::{Line, Place};

const LINE_HEIGHT: i32 = 17;
const CHARACTER_WIDTH: i32 = 8;
const BOX_MARGIN: i32 = 12;
const SIDE_MARGIN: i32 = 40;
const TOP_MARGIN: i32 = 60;
const ROW_GAP: i32 = 100;
const COLUMN_GAP: i32 = 60;
const LEGEND_HEIGHT: i32 = 80;
/// Width of the place that an arrow has in a row that it passes: its gaps keep it apart.
const VIA_WIDTH: i32 = 2;
/// Size of a character of an arrow's word, with some air.
const LABEL_CHARACTER_WIDTH: i32 = 7;
const LABEL_HEIGHT: i32 = 14;
/// Where on its curve a word may stand, in sixteenths, the best first.
const LABEL_STOPS: [i32; 9] = [8, 7, 9, 6, 10, 5, 11, 4, 12];
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

/// A point of the drawing, in pixels.
pub type Point = (i32, i32);

/// The placed boxes.
pub struct Layout {
    /// One for each node.
    pub places: Vec<Place>,
    /// Width of the drawing.
    pub width: i32,
    /// Height of the drawing.
    pub height: i32,
    /// The curves of each edge, from the holder to the other box: each is entered where the one
    /// before ended, by a straight line.
    pub curves: Vec<Vec<[Point; 2]>>,
    /// Middle of each edge's word.
    pub labels: Vec<Point>,
}

impl Layout {
    /// Places `nodes`, at least `least_width` wide.
    pub fn new(nodes: &[Node], edges: &[Edge], least_width: i32) -> Self {
        let mut grid = Grid::new(nodes, edges);
        grid.order();
        let (width, height) = grid.place(nodes, least_width);
        let curves: Vec<_> = (0..edges.len()).map(|edge| grid.curves(edge)).collect();
        let labels = labels(edges, &curves);
        grid.places.truncate(nodes.len());
        Self {
            places: grid.places,
            width,
            height,
            curves,
            labels,
        }
    }

    /// The edge of that index as an SVG path.
    pub fn path(&self, edge: usize) -> String {
        let mut path = String::new();
        for [(x1, y1), (x2, y2)] in &self.curves[edge] {
            let [_, (cx1, cy1), (cx2, cy2), _] = controls([(*x1, *y1), (*x2, *y2)]);
            path += if path.is_empty() { "M" } else { " L" };
            path += &format!(" {x1} {y1} C {cx1} {cy1}, {cx2} {cy2}, {x2} {y2}");
        }
        path
    }
}

/// The control points of a curve that leaves and arrives upright; one between boxes of the same row
/// goes over them.
fn controls([(x1, y1), (x2, y2)]: [Point; 2]) -> [Point; 4] {
    let bend = if y1 == y2 {
        return [
            (x1, y1),
            (x1, y1 - ROW_GAP / 2),
            (x2, y2 - ROW_GAP / 2),
            (x2, y2),
        ];
    } else {
        (y2 - y1) / 2
    };
    [(x1, y1), (x1, y1 + bend), (x2, y2 - bend), (x2, y2)]
}

/// The point of a curve after `sixteenths` of it.
fn along(curve: [Point; 2], sixteenths: i32) -> Point {
    let (t, s) = (sixteenths, 16 - sixteenths);
    let weights = [s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t];
    let sum = |coordinate: fn(&Point) -> i32| {
        let points = controls(curve);
        let parts = points.iter().zip(weights);
        parts
            .map(|(point, weight)| coordinate(point) * weight)
            .sum::<i32>()
            / (16 * 16 * 16)
    };
    (sum(|point| point.0), sum(|point| point.1))
}

/// Where words go: on the first curve of their edge, apart from each other.
fn labels(edges: &[Edge], curves: &[Vec<[Point; 2]>]) -> Vec<Point> {
    let mut taken: Vec<Place> = Vec::new();
    let mut labels = Vec::new();
    for (edge, curves) in edges.iter().zip(curves) {
        let curve = curves[0];
        let free = LABEL_STOPS.iter().find(|stop| {
            let place = label_place(along(curve, **stop), &edge.label);
            taken.iter().all(|other| !place.touches(other))
        });
        let point = along(curve, *free.unwrap_or(&LABEL_STOPS[0]));
        if !edge.label.is_empty() {
            taken.push(label_place(point, &edge.label));
        }
        labels.push(point);
    }
    labels
}

/// What the word takes up whose middle is `point`.
pub fn label_place((x, y): Point, label: &str) -> Place {
    let width = label.chars().count() as i32 * LABEL_CHARACTER_WIDTH;
    Place {
        x: x - width / 2,
        y: y - LABEL_HEIGHT / 2,
        width,
        height: LABEL_HEIGHT,
    }
}

/// What stands in the rows: the boxes, and behind them the places of arrows that pass a row.
struct Grid {
    /// Row of each.
    row: Vec<usize>,
    /// Of each row from the bottom, what stands in it from the left.
    rows: Vec<Vec<usize>>,
    /// What each edge goes through, both boxes included.
    chains: Vec<Vec<usize>>,
    /// Where each is, once it is placed.
    places: Vec<Place>,
}

impl Grid {
    fn new(nodes: &[Node], edges: &[Edge]) -> Self {
        let mut row: Vec<usize> = nodes.iter().map(|node| node.row).collect();
        let mut chains = Vec::new();
        for edge in edges {
            let (from, to) = (row[edge.from], row[edge.to]);
            let mut passed: Vec<usize> = (from.min(to) + 1..from.max(to)).collect();
            if from > to {
                passed.reverse();
            }
            let first = row.len();
            row.extend(passed);
            let vias = first..row.len();
            chains.push(
                std::iter::once(edge.from)
                    .chain(vias)
                    .chain([edge.to])
                    .collect(),
            );
        }
        let mut rows = vec![Vec::new(); row.iter().map(|row| row + 1).max().unwrap_or(0)];
        for (item, row) in row.iter().enumerate() {
            rows[*row].push(item);
        }
        let places = vec![Place::default(); row.len()];
        Self {
            row,
            rows,
            chains,
            places,
        }
    }

    /// Orders each row by the mean position of the neighbours in other rows.
    fn order(&mut self) {
        for _ in 0..ORDERING_ROUNDS {
            for row in 0..self.rows.len() {
                let positions = self.positions();
                let mut items = std::mem::take(&mut self.rows[row]);
                let mean = |item: usize| self.mean_neighbour(item, &positions);
                items.sort_by(|a, b| mean(*a).total_cmp(&mean(*b)));
                self.rows[row] = items;
            }
        }
    }

    /// Where in its row each stands, from -1 (left) to 1 (right).
    fn positions(&self) -> Vec<f64> {
        let mut positions = vec![0.0; self.row.len()];
        for row in &self.rows {
            for (place, item) in row.iter().enumerate() {
                positions[*item] = (2 * place + 1) as f64 / row.len() as f64 - 1.0;
            }
        }
        positions
    }

    fn mean_neighbour(&self, item: usize, positions: &[f64]) -> f64 {
        let steps = self.chains.iter().flat_map(|chain| chain.windows(2));
        let others: Vec<f64> = steps
            .filter_map(|step| match step {
                [a, b] if *a == item => Some(*b),
                [a, b] if *b == item => Some(*a),
                _ => None,
            })
            .filter(|other| self.row[*other] != self.row[item])
            .map(|other| positions[other])
            .collect();
        if others.is_empty() {
            return positions[item];
        }
        others.iter().sum::<f64>() / others.len() as f64
    }

    /// Places everything; width and height of the drawing.
    fn place(&mut self, nodes: &[Node], least_width: i32) -> (i32, i32) {
        let width_of = |item: usize| nodes.get(item).map_or(VIA_WIDTH, |node| size(node).0);
        let row_width = |row: &Vec<usize>| -> i32 {
            let all: i32 = row.iter().map(|item| width_of(*item) + COLUMN_GAP).sum();
            all - COLUMN_GAP
        };
        let widest = self.rows.iter().map(row_width).max().unwrap_or(0);
        let width = (widest + 2 * SIDE_MARGIN).max(least_width);
        let mut y = TOP_MARGIN;
        for row in self.rows.iter().rev() {
            let mut x = (width - row_width(row)) / 2;
            let heights = row.iter().filter_map(|item| nodes.get(*item));
            let height = heights.map(|node| size(node).1).max().unwrap_or(0);
            for item in row {
                let width = width_of(*item);
                self.places[*item] = Place {
                    x,
                    y,
                    width,
                    height,
                };
                x += width + COLUMN_GAP;
            }
            y += height + ROW_GAP;
        }
        (width, y - ROW_GAP + LEGEND_HEIGHT)
    }

    /// The curves of an edge: one for each step from row to row.
    fn curves(&self, edge: usize) -> Vec<[Point; 2]> {
        let steps = self.chains[edge].windows(2).enumerate();
        steps
            .map(|(step, pair)| {
                let (a, b) = (self.places[pair[0]], self.places[pair[1]]);
                let (leaves, arrives) = if a.y < b.y {
                    (Side::Below, Side::Above)
                } else if a.y > b.y {
                    (Side::Above, Side::Below)
                } else {
                    (Side::Above, Side::Above)
                };
                [
                    self.end(pair[0], leaves, (edge, step)),
                    self.end(pair[1], arrives, (edge, step)),
                ]
            })
            .collect()
    }

    /// Where step `own` of an edge meets `item`. All arrows at one side of a box share it evenly,
    /// ordered by where they lead.
    fn end(&self, item: usize, side: Side, own: (usize, usize)) -> Point {
        let place = self.places[item];
        let mut ends = Vec::new();
        for (edge, chain) in self.chains.iter().enumerate() {
            for (step, pair) in chain.windows(2).enumerate() {
                let other = match pair {
                    [a, b] if *a == item => *b,
                    [a, b] if *b == item => *a,
                    _ => continue,
                };
                let far = self.places[other];
                let is_here = match side {
                    Side::Below => far.y > place.y,
                    Side::Above => far.y <= place.y,
                };
                if is_here {
                    ends.push((far.x + far.width / 2, (edge, step)));
                }
            }
        }
        ends.sort_unstable();
        let position = ends.iter().position(|(_, end)| *end == own).unwrap_or(0);
        let x = place.x + place.width * (position as i32 + 1) / (ends.len() as i32 + 1);
        match side {
            Side::Below => (x, place.y + place.height),
            Side::Above => (x, place.y),
        }
    }
}

/// A side of a box.
#[derive(Clone, Copy)]
enum Side {
    Above,
    Below,
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
