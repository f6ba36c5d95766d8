//! Turns of contenders, and their comparison.

use serde_json::{Value, json};

/// Figures of some contenders, one for each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    names: Vec<String>,
    /// By contender, then by round.
    figures: Vec<Vec<f64>>,
}

impl Rounds {
    /// Gives each contender a turn in each round. `turn` says what the n-th contender's came to.
    ///
    /// Every other round goes backwards, so that no contender always comes after the same one.
    pub(crate) fn run(names: &[&str], rounds: usize, mut turn: impl FnMut(usize) -> f64) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut figures = vec![Vec::with_capacity(rounds); names.len()];
        for round in 0..rounds {
            for i in 0..names.len() {
                let contender = if round % 2 == 0 { i } else { names.len() - 1 - i };
                figures[contender].push(turn(contender));
            }
        }
        Self { names, figures }
    }

    /// The contenders' names.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// One contender's figures, round by round.
    pub(crate) fn figures(&self, contender: usize) -> &[f64] {
        &self.figures[contender]
    }

    pub(crate) fn median(&self, contender: usize) -> f64 {
        median(&self.figures[contender])
    }

    pub(crate) fn best(&self, contender: usize) -> f64 {
        self.figures[contender].iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// One contender's figure over another's: lower quartile, median and upper quartile of the rounds.
    pub(crate) fn ratio(&self, of: usize, to: usize) -> [f64; 3] {
        let ratios: Vec<f64> = self.figures[of].iter().zip(&self.figures[to]).map(|(of, to)| of / to).collect();
        [0.25, 0.5, 0.75].map(|q| quantile(&ratios, q))
    }

    /// Everything, for `--json`.
    pub(crate) fn to_json(&self) -> Value {
        self.names.iter().cloned().zip(self.figures.iter().map(|figures| json!(figures))).collect()
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value at this share of the way from the least to the greatest, between two of them if need be.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}
