//! Calls must go one way: finds a cycle in the graph of who calls whom.

/// The first cycle of the graph in which node `n` leads to the nodes `edges[n]`, as the nodes
/// along it with the first one again at the end.
#[must_use]
pub fn cycle(edges: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut finished = vec![false; edges.len()];
    (0..edges.len()).find_map(|start| walk(start, edges, &mut Vec::new(), &mut finished))
}

/// Depth-first search from `node`; `path` is the way to it.
fn walk(
    node: usize,
    edges: &[Vec<usize>],
    path: &mut Vec<usize>,
    finished: &mut [bool],
) -> Option<Vec<usize>> {
    if let Some(start) = path.iter().position(|earlier| *earlier == node) {
        let mut cycle = path[start..].to_vec();
        cycle.push(node);
        return Some(cycle);
    }
    if finished[node] {
        return None;
    }
    path.push(node);
    let found = edges[node]
        .iter()
        .find_map(|next| walk(*next, edges, path, finished));
    path.pop();
    finished[node] = true;
    found
}

/// For each node the length of the longest way down from it: 0 for one that calls nobody.
/// The graph must be free of cycles.
#[must_use]
pub fn heights(edges: &[Vec<usize>]) -> Vec<usize> {
    fn height(node: usize, edges: &[Vec<usize>], known: &mut [Option<usize>]) -> usize {
        if let Some(height) = known[node] {
            return height;
        }
        let below = edges[node]
            .iter()
            .map(|next| height(*next, edges, known) + 1);
        let own = below.max().unwrap_or(0);
        known[node] = Some(own);
        own
    }
    let mut known = vec![None; edges.len()];
    (0..edges.len())
        .map(|node| height(node, edges, &mut known))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diamond_is_no_cycle() {
        let edges = [vec![1, 2], vec![3], vec![3], vec![]];
        assert_eq!(cycle(&edges), None);
        assert_eq!(heights(&edges), [2, 1, 1, 0]);
    }

    #[test]
    fn a_cycle_is_named_without_the_way_to_it() {
        assert_eq!(cycle(&[vec![1], vec![2], vec![1]]), Some(vec![1, 2, 1]));
        assert_eq!(cycle(&[vec![0]]), Some(vec![0, 0]));
    }
}
