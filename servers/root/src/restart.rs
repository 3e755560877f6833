//! When a program that died is started again.
//!
//! Each restart in a row waits twice as long as the one before; a run that lasts as long as the
//! manifest calls calm makes the next death the first of a row again.

use proto::boot::Restart;

/// Longest wait between restarts, in milliseconds: what an operator would still wait for.
const WAIT_MAX_MS: u64 = 60_000;

/// The restarts of one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// Restarts in a row.
    in_a_row: u32,
    /// All restarts.
    total: u32,
    /// When the last run started.
    started_us: u64,
}

impl History {
    /// Notes the start of a run.
    pub fn started(&mut self, now_us: u64) {
        self.started_us = now_us;
    }

    /// All restarts so far.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// Forgets the row: somebody wants the program to run.
    pub fn forgive(&mut self) {
        self.in_a_row = 0;
    }

    /// Decides after a death: the time of the restart, or `None` when it is given up.
    #[must_use]
    pub fn after_death(&mut self, policy: Restart, now_us: u64) -> Option<u64> {
        if now_us.saturating_sub(self.started_us) >= u64::from(policy.calm_ms) * 1000 {
            self.in_a_row = 0;
        }
        if self.in_a_row >= policy.limit {
            return None;
        }
        let factor = 1_u64.checked_shl(self.in_a_row).unwrap_or(u64::MAX);
        let wait_ms = u64::from(policy.backoff_ms)
            .saturating_mul(factor)
            .min(WAIT_MAX_MS);
        self.in_a_row += 1;
        self.total += 1;
        Some(now_us + wait_ms * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Restart = Restart {
        limit: 3,
        backoff_ms: 50,
        calm_ms: 1000,
    };

    #[test]
    fn waits_double_until_the_limit() {
        let mut history = History::default();
        history.started(100);
        assert_eq!(history.after_death(POLICY, 200), Some(50_200));
        assert_eq!(history.after_death(POLICY, 200), Some(100_200));
        assert_eq!(history.after_death(POLICY, 200), Some(200_200));
        assert_eq!(history.after_death(POLICY, 200), None);
        assert_eq!(history.total(), 3);
    }

    #[test]
    fn a_calm_run_starts_a_new_row() {
        let mut history = History::default();
        for _ in 0..10 {
            history.started(0);
            assert_eq!(history.after_death(POLICY, 1_000_000), Some(1_050_000));
        }
        assert_eq!(history.total(), 10);
    }

    #[test]
    fn no_policy_means_no_restart_and_long_waits_are_capped() {
        let none = Restart {
            limit: 0,
            backoff_ms: 0,
            calm_ms: 0,
        };
        assert_eq!(History::default().after_death(none, 5), None);
        let patient = Restart {
            limit: 200,
            backoff_ms: u32::MAX,
            calm_ms: u32::MAX,
        };
        let mut history = History::default();
        for _ in 0..200 {
            assert_eq!(history.after_death(patient, 1), Some(60_000_001));
        }
    }
}
