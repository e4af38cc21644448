//! Sorting in little code: one heap sort of indices for every type.
//!
//! The standard library's sorts are compiled anew, several kilobytes each time, for every type they sort; the lists
//! here are short, and the program is to be small.

/// The elements in the order that `before` says; those of which neither comes before the other keep their order.
pub fn sorted<T>(list: Vec<T>, before: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let mut order: Vec<usize> = (0..list.len()).collect();
    heap_sort(&mut order, &|a, b| before(&list[a], &list[b]));
    let mut slots: Vec<Option<T>> = list.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| slots[at].take()).collect()
}

fn heap_sort(order: &mut [usize], before: &dyn Fn(usize, usize) -> bool) {
    // Equals are told apart by where they stood, which makes the order whole and the sort stable.
    let less = |a: usize, b: usize| before(a, b) || (!before(b, a) && a < b);
    for root in (0..order.len() / 2).rev() {
        sift_down(order, root, &less);
    }
    for end in (1..order.len()).rev() {
        order.swap(0, end);
        sift_down(&mut order[..end], 0, &less);
    }
}

fn sift_down(heap: &mut [usize], mut root: usize, less: &dyn Fn(usize, usize) -> bool) {
    loop {
        let mut child = 2 * root + 1;
        if child >= heap.len() {
            return;
        }
        if child + 1 < heap.len() && less(heap[child], heap[child + 1]) {
            child += 1;
        }
        if !less(heap[root], heap[child]) {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sorts_as_the_standard_library_does() {
        let mut state = 1_u32;
        for length in 0..200 {
            let list: Vec<(u32, usize)> = (0..length)
                .map(|at| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 28, at)
                })
                .collect();
            let mut expected = list.clone();
            expected.sort_by_key(|(key, _)| *key);
            assert_eq!(sorted(list, |a, b| a.0 < b.0), expected);
        }
    }
}
