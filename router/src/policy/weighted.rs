//! Picks by weight.

/// Returns the index that `roll` (0 to 1, exclusive) falls on when every index takes a share of
/// its weight, or `None` if no weight is positive.
pub fn pick(weights: impl Iterator<Item = f64> + Clone, roll: f64) -> Option<usize> {
    let total: f64 = weights.clone().sum();
    let mut left = roll * total;
    let mut last_positive = None;
    for (idx, weight) in weights.enumerate().filter(|(_, weight)| *weight > 0.0) {
        if left < weight {
            return Some(idx);
        }
        left -= weight;
        // Rounding may leave a crumb after the last one, which then takes it.
        last_positive = Some(idx);
    }
    last_positive
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(weights: &[f64], roll: f64, expected: Option<usize>) {
        assert_eq!(pick(weights.iter().copied(), roll), expected, "{weights:?} {roll}");
    }

    #[test]
    fn each_takes_its_share() {
        check(&[1.0, 3.0], 0.0, Some(0));
        check(&[1.0, 3.0], 0.249, Some(0));
        check(&[1.0, 3.0], 0.25, Some(1));
        check(&[1.0, 3.0], 0.999, Some(1));
    }

    #[test]
    fn a_weight_of_zero_is_never_picked() {
        check(&[0.0, 1.0], 0.0, Some(1));
        check(&[1.0, 0.0], 0.999_999, Some(0));
        check(&[0.0, 0.0], 0.5, None);
        check(&[], 0.5, None);
    }

    proptest! {
        #[test]
        fn whoever_is_picked_has_weight(
            weights in proptest::collection::vec(prop_oneof![Just(0.0), 0.0..1e9_f64], 0..8),
            roll in 0.0..1.0_f64,
        ) {
            let picked = pick(weights.iter().copied(), roll);
            prop_assert_eq!(picked.is_some(), weights.iter().any(|weight| *weight > 0.0));
            prop_assert!(picked.is_none_or(|idx| weights[idx] > 0.0));
        }
    }
}
