//! Alternating half-sweeps over users and items, on a card where one serves.

use super::cuda::{OnCard, Stopped};
use super::{HalfSweep, factor_f32};
use crate::Cancelled;
use crate::compute::{Compute, Estimate};

/// One side's problems: as the fields of [`HalfSweep`] of the same names.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Row `r` has entries `offsets[r]..offsets[r + 1]`: rows + 1 numbers.
    pub offsets: &'a [usize],
    /// The column, a row of the other side, of each entry.
    pub columns: &'a [u32],
    /// The weight `w ≥ 0` of each entry, on top of the unobserved weight.
    pub weights: &'a [f32],
    /// What is added to the diagonal for each row.
    pub ridges: &'a [f32],
}

impl Side<'_> {
    /// How many rows.
    pub(super) fn row_count(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
}

/// What one iteration says of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iteration {
    /// The items' `Σ b·x`: what [`factor_f32`] returns for the second half.
    pub gain: f64,
    /// The users' `Σ_u ridge_u ‖x_u‖²`.
    pub penalty: f64,
}

/// Both sides, solved in turns wherever that is served.
#[derive(Debug)]
pub struct Alternation<'a> {
    problem: Problem<'a>,
    compute: &'a Compute<'a>,
    /// The items' factors at the beginning, for as long as the CPU might have to begin anew.
    start: Vec<f32>,
    /// How many iterations were done.
    done: usize,
    state: State,
}

/// What does not change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a> {
    pub(super) users: Side<'a>,
    pub(super) items: Side<'a>,
    pub(super) factor_count: usize,
    pub(super) unobserved_weight: f32,
}

#[derive(Debug)]
enum State {
    Card(Box<OnCard>),
    Cpu(OnCpu),
}

#[derive(Debug)]
struct OnCpu {
    user_factors: Vec<f32>,
    item_factors: Vec<f32>,
}

impl<'a> Alternation<'a> {
    /// Makes a card ready, if one serves. `item_factors`: items × factors, row-major, where the first sweep over the users begins.
    /// `iterations` is how many are expected, for the estimate.
    pub fn new(
        users: Side<'a>,
        items: Side<'a>,
        factor_count: usize,
        unobserved_weight: f32,
        item_factors: Vec<f32>,
        iterations: usize,
        compute: &'a Compute<'a>,
    ) -> Self {
        let problem = Problem {
            users,
            items,
            factor_count,
            unobserved_weight,
        };
        let card = if problem.is_empty() {
            None
        } else {
            compute.serve("factor", problem.estimate(iterations), |queue| {
                OnCard::new(queue, &problem, &item_factors)
            })
        };
        let (start, state) = match card {
            Some(card) => (item_factors, State::Card(Box::new(card))),
            None => (vec![], State::Cpu(OnCpu::new(&problem, item_factors))),
        };
        Self {
            problem,
            compute,
            start,
            done: 0,
            state,
        }
    }

    /// Solves the users, then the items.
    ///
    /// # Errors
    /// The work was cancelled.
    pub fn iterate(&mut self) -> Result<Iteration, Cancelled> {
        let iteration = match &mut self.state {
            State::Cpu(cpu) => cpu.iterate(&self.problem, self.compute)?,
            State::Card(card) => match card.iterate(&self.problem, self.compute) {
                Ok(iteration) => iteration,
                Err(Stopped::Cancelled) => return Err(Cancelled),
                Err(Stopped::Declined(declined)) => {
                    self.compute.declined("factor", &declined);
                    let (cpu, iteration) = self.replay(self.done + 1)?;
                    self.state = State::Cpu(cpu);
                    iteration
                }
            },
        };
        self.done += 1;
        Ok(iteration)
    }

    /// User and item factors, row-major: users × factors and items × factors.
    ///
    /// # Errors
    /// The work was cancelled.
    pub fn finish(mut self) -> Result<(Vec<f32>, Vec<f32>), Cancelled> {
        let failed = match self.state {
            State::Cpu(cpu) => return Ok((cpu.user_factors, cpu.item_factors)),
            State::Card(ref card) => match card.factors() {
                Ok(factors) => return Ok(factors),
                Err(e) => e,
            },
        };
        self.compute.declined("factor", &failed.into());
        let (cpu, _) = self.replay(self.done)?;
        Ok((cpu.user_factors, cpu.item_factors))
    }

    /// So many iterations from the beginning, on the CPU, where the card was: they are the same whenever they are done, but for roundings.
    /// Also gives what the last one says.
    fn replay(&mut self, iterations: usize) -> Result<(OnCpu, Iteration), Cancelled> {
        let mut cpu = OnCpu::new(&self.problem, std::mem::take(&mut self.start));
        let mut last = Iteration {
            gain: 0.0,
            penalty: 0.0,
        };
        for _ in 0..iterations {
            last = cpu.iterate(&self.problem, self.compute)?;
        }
        Ok((cpu, last))
    }
}

impl OnCpu {
    fn new(problem: &Problem<'_>, item_factors: Vec<f32>) -> Self {
        Self {
            user_factors: vec![0.0; problem.users.row_count() * problem.factor_count],
            item_factors,
        }
    }

    fn iterate(&mut self, problem: &Problem<'_>, compute: &Compute<'_>) -> Result<Iteration, Cancelled> {
        let half = |side: &Side<'_>, fixed: &[f32], solution: &mut [f32]| {
            let gain = factor_f32(&problem.sweep(side, fixed), solution, compute.pool, compute.cancel);
            if compute.is_cancelled() {
                Err(Cancelled)
            } else {
                Ok(gain)
            }
        };
        half(&problem.users, &self.item_factors, &mut self.user_factors)?;
        let gain = half(&problem.items, &self.user_factors, &mut self.item_factors)?;
        let penalty = self
            .user_factors
            .chunks_exact(problem.factor_count.max(1))
            .zip(problem.users.ridges)
            .map(|(x, ridge)| penalty(x, *ridge))
            .sum();
        Ok(Iteration { gain, penalty })
    }
}

/// `ridge ‖x‖²`.
pub(super) fn penalty(x: &[f32], ridge: f32) -> f64 {
    f64::from(ridge) * x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()
}

impl<'a> Problem<'a> {
    fn is_empty(&self) -> bool {
        self.factor_count == 0 || self.users.row_count() == 0 || self.items.row_count() == 0
    }

    /// One side, to be solved while the other has these factors.
    pub(super) fn sweep<'b>(&self, side: &Side<'b>, fixed: &'b [f32]) -> HalfSweep<'b> {
        HalfSweep {
            offsets: side.offsets,
            columns: side.columns,
            weights: side.weights,
            factors: fixed,
            factor_count: self.factor_count,
            unobserved_weight: self.unobserved_weight,
            ridges: side.ridges,
            targets: None,
        }
    }

    /// What so many iterations cost.
    fn estimate(&self, iterations: usize) -> Estimate {
        let n = self.factor_count.next_multiple_of(8) as f64;
        let rows = (self.users.row_count() + self.items.row_count()) as f64;
        let entries = (self.users.columns.len() + self.items.columns.len()) as f64;
        // Half a matrix for each entry and for each row's share of YᵀY; a factorization for each row.
        let multiply_adds = (entries + rows) * n * n / 2.0 + rows * n * n * n / 6.0;
        let bytes = entries * (8.0 + 4.0 * n) + rows * 8.0 * n;
        let launches = 10.0;
        let card_ms = (bytes / 1.5e12).max(2.0 * multiply_adds / 1e13) * 1e3 + launches * 0.01;
        Estimate {
            thread_ms: iterations as f64 * multiply_adds / 3e9 * 1e3,
            card_ms: iterations as f64 * card_ms,
            moved_bytes: entries * 8.0 + rows * (4.0 * n + 16.0),
        }
    }
}
