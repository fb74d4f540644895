//! Which batch each member of a rollout is in: percentages of all nodes, counted over whole components.
//!
//! A component is never split, and no batch is empty: in a small fleet there are fewer batches than were asked for.

use straas_schemas::rollout::FleetBatch;

/// The batch of each member, from 0, and the batches. Members come with their numbers of nodes; `percents` rise to 100.
pub fn batches(nodes: &[u32], percents: &[u32]) -> (Vec<u32>, Vec<FleetBatch>) {
    let all: u64 = nodes.iter().copied().map(u64::from).sum();
    let (mut of, mut made, mut reached) = (Vec::with_capacity(nodes.len()), Vec::new(), 0_u64);
    for (number, percent) in percents.iter().enumerate() {
        let last = number + 1 == percents.len();
        let aim = (all * u64::from(*percent)).div_ceil(100);
        let mut batch = FleetBatch { percent: *percent, components: 0, nodes: 0 };
        while let Some(size) = nodes.get(of.len()).filter(|_| last || batch.components == 0 || reached < aim) {
            of.push(u32::try_from(made.len()).unwrap_or(u32::MAX));
            reached += u64::from(*size);
            batch.components += 1;
            batch.nodes = batch.nodes.saturating_add(*size);
        }
        if batch.components > 0 {
            made.push(batch);
        }
    }
    (of, made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_components_and_no_empty_batch() {
        let check = |nodes: &[u32], percents: &[u32], of: &[u32], made: &[(u32, u32, u32)]| {
            let (batch, batches) = batches(nodes, percents);
            let batches: Vec<_> = batches.iter().map(|b| (b.percent, b.components, b.nodes)).collect();
            assert_eq!((batch.as_slice(), batches.as_slice()), (of, made), "{nodes:?} {percents:?}");
        };
        let usual = [1, 5, 50, 100];
        check(&[], &usual, &[], &[]);
        check(&[3], &usual, &[0], &[(1, 1, 3)]);
        check(&[1, 1, 1], &usual, &[0, 1, 2], &[(1, 1, 1), (5, 1, 1), (50, 1, 1)]);
        check(&[3, 1, 1, 5], &[50, 100], &[0, 0, 0, 1], &[(50, 3, 5), (100, 1, 5)]);
        check(&[5, 5], &[100], &[0, 0], &[(100, 2, 10)]);
        check(&[0, 0], &[1, 100], &[0, 1], &[(1, 1, 0), (100, 1, 0)]);
        let many = vec![1; 200];
        let (of, made) = batches(&many, &usual);
        assert_eq!(made.iter().map(|b| b.components).collect::<Vec<_>>(), [2, 8, 90, 100]);
        assert!(of.is_sorted() && of.len() == 200);
    }
}
