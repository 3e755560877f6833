//! The capability graph of a manifest, as an SVG.
//!
//! A program is a box with what it holds by itself; an arrow is a capability on somebody else.
//! Calls point downward, because a manifest whose calls do not is refused; devices stand below
//! their drivers. [`layout`] places the boxes, [`svg`] writes the file.

mod layout;
mod svg;

use crate::manifest::quantity::show_size;
use crate::manifest::{calls, resolve};
use layout::{Edge, Layout, Node};
use proto::boot::{Authority, Callee, ChannelKind, Manifest, Placement, Program, StartWhen};
use svg::{LEGEND_WIDTH, Line, Svg};

/// Draws `manifest`.
#[must_use]
pub fn draw(manifest: &Manifest) -> String {
    let nodes = nodes(manifest);
    let edges = edges(manifest);
    let layout = Layout::new(&nodes, &edges, LEGEND_WIDTH);
    let mut svg = Svg::new(layout.width, layout.height);
    svg.text(
        24,
        34,
        "title",
        &format!("{}: who holds what", manifest.system),
    );
    for (index, edge) in edges.iter().enumerate() {
        svg.arrow(&layout.path(index), edge.line);
    }
    // Words over all lines, so that no line crosses one.
    for (index, edge) in edges
        .iter()
        .enumerate()
        .filter(|(_, edge)| !edge.label.is_empty())
    {
        let (x, y) = layout.labels[index];
        svg.label(x, y, &edge.label);
    }
    for (node, place) in nodes.iter().zip(&layout.places) {
        svg.node(*place, node.class, &node.lines);
    }
    svg.legend(layout.height - 40);
    svg.finish()
}

/// Root, the programs in the manifest's order, then the devices.
fn nodes(manifest: &Manifest) -> Vec<Node> {
    let heights = heights(manifest);
    let root = Node {
        class: "root",
        row: 1,
        lines: vec![
            "root".into(),
            "holds every initial capability".into(),
            "priority 255".into(),
        ],
    };
    let programs = manifest
        .programs
        .iter()
        .zip(&heights)
        .map(|(program, height)| Node {
            class: if program.start == StartWhen::AtBoot {
                "program"
            } else {
                "request"
            },
            row: height + 2,
            lines: describe(program),
        });
    let devices = manifest.devices.iter().map(|device| {
        let mut lines = vec![device.name.clone()];
        lines.extend(
            device
                .ports
                .map(|ports| format!("ports {:#x}-{:#x}", ports.first, ports.last)),
        );
        lines.extend(device.interrupt.map(|line| format!("interrupt {line}")));
        lines.extend(device.framebuffer.then(|| "frame buffer".to_owned()));
        Node {
            class: "device",
            row: 0,
            lines,
        }
    });
    std::iter::once(root)
        .chain(programs)
        .chain(devices)
        .collect()
}

/// How many layers each program stands above root's: above those that it calls, and where calls leave
/// it open also above those that it has a channel to.
fn heights(manifest: &Manifest) -> Vec<usize> {
    let mut edges = resolve::call_edges(&manifest.programs);
    for channel in &manifest.channels {
        let Callee::Program(from) = channel.from else {
            continue;
        };
        let from = usize::from(from);
        edges[from].push(usize::from(channel.to));
        // Channels may form cycles, calls do not.
        if calls::cycle(&edges).is_some() {
            edges[from].pop();
        }
    }
    calls::heights(&edges)
}

/// The lines in a program's box.
fn describe(program: &Program) -> Vec<String> {
    let count = if program.instances > 1 {
        format!(" × {}", program.instances)
    } else {
        String::new()
    };
    let cpu = match program.placement {
        Placement::Cpu(cpu) => format!("CPU {cpu}"),
        Placement::Spread => "all CPUs".to_owned(),
    };
    let mut lines = vec![
        format!("{}{count}", program.name),
        format!("priority {}, {cpu}", program.priority),
        format!(
            "{} of {}",
            show_time(program.budget_us),
            show_time(program.period_us)
        ),
        format!(
            "heap {}, {}",
            show_size(program.heap_bytes),
            counted(program.threads, "thread")
        ),
    ];
    if program.vcpus > 0 {
        lines.push(format!("{} virtual CPUs, guest memory", program.vcpus));
    }
    let timer = program.timer_bit.map(|_| "timer");
    let archive = program.boot_archive.then_some("/boot");
    let own: Vec<&str> = timer.into_iter().chain(archive).collect();
    if !own.is_empty() {
        lines.push(own.join(", "));
    }
    lines
}

/// Microseconds, as milliseconds where nothing is lost by it.
fn show_time(us: u64) -> String {
    if us.is_multiple_of(1000) {
        format!("{} ms", us / 1000)
    } else {
        format!("{us} us")
    }
}

fn counted(count: u16, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

fn edges(manifest: &Manifest) -> Vec<Edge> {
    let first_device = manifest.programs.len() + 1;
    let mut edges = Vec::new();
    for (program, from) in manifest.programs.iter().zip(1..) {
        for callee in &program.calls {
            let label = match (callee, program.authority) {
                (Callee::Root, Authority::Report) => "report",
                (Callee::Root, Authority::Observe) => "observe",
                (Callee::Root, Authority::Manage) => "manage",
                (Callee::Program(_), _) => "call",
            };
            edges.push(Edge {
                from,
                to: node_of(*callee),
                line: Line::Call,
                label: label.to_owned(),
            });
        }
        edges.extend(program.devices.iter().map(|grant| Edge {
            from,
            to: first_device + usize::from(grant.device),
            line: Line::Device,
            label: String::new(),
        }));
    }
    edges.extend(manifest.channels.iter().map(|channel| Edge {
        from: node_of(channel.from),
        to: node_of(Callee::Program(channel.to)),
        line: if channel.kind == ChannelKind::Log {
            Line::Log
        } else {
            Line::Channel
        },
        label: channel.from_name.clone(),
    }));
    edges
}

fn node_of(callee: Callee) -> usize {
    match callee {
        Callee::Root => 0,
        Callee::Program(index) => usize::from(index) + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use layout::label_place;
    use std::path::Path;
    use svg::Place;

    fn system() -> Manifest {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("system.toml");
        manifest::read(&path).expect("the system manifest")
    }

    #[test]
    fn calls_point_down_and_boxes_do_not_touch() {
        let manifest = system();
        let (nodes, edges) = (nodes(&manifest), edges(&manifest));
        let layout = Layout::new(&nodes, &edges, LEGEND_WIDTH);
        for edge in edges
            .iter()
            .filter(|edge| matches!(edge.line, Line::Call | Line::Device))
        {
            assert!(
                layout.places[edge.from].y < layout.places[edge.to].y,
                "{edge:?}"
            );
        }
        for (index, a) in layout.places.iter().enumerate() {
            for b in &layout.places[..index] {
                assert!(!a.touches(b), "{a:?} {b:?}");
            }
            assert!(a.x >= 0 && a.x + a.width <= layout.width && a.y + a.height <= layout.height);
        }
    }

    #[test]
    fn no_arrow_crosses_a_box_and_no_word_another() {
        let manifest = system();
        let (nodes, edges) = (nodes(&manifest), edges(&manifest));
        let layout = Layout::new(&nodes, &edges, LEGEND_WIDTH);
        let mut words: Vec<Place> = Vec::new();
        for (index, edge) in edges.iter().enumerate() {
            // Between rows a curve is free; the straight pieces pass the rows.
            for pair in layout.curves[index].windows(2) {
                let [[_, (x1, y1)], [(x2, y2), _]] = [pair[0], pair[1]];
                assert_eq!(x1, x2, "upright");
                let piece = Place {
                    x: x1,
                    y: y1.min(y2),
                    width: 1,
                    height: (y1 - y2).abs(),
                };
                for place in &layout.places {
                    assert!(!piece.touches(place), "{edge:?} crosses {place:?}");
                }
            }
            if !edge.label.is_empty() {
                let word = label_place(layout.labels[index], &edge.label);
                let others = words.iter().chain(&layout.places);
                for other in others {
                    assert!(!word.touches(other), "{edge:?} at {word:?} on {other:?}");
                }
                words.push(word);
            }
        }
    }

    #[test]
    fn every_program_device_and_channel_is_drawn() {
        let manifest = system();
        let drawing = draw(&manifest);
        let names = manifest.programs.iter().map(|program| &program.name);
        for name in names.chain(manifest.devices.iter().map(|device| &device.name)) {
            assert!(drawing.contains(&format!(">{name}")), "{name}");
        }
        let arrows = drawing.matches("marker-end").count();
        assert_eq!(
            arrows,
            edges(&manifest).len() + 4,
            "one for each edge, and the legend's"
        );
    }
}
