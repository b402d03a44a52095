//! K-means: segments of rows that are near each other.
//!
//! **Method.** Lloyd's passes from a greedy k-means++ start: each pass gives every row to its nearest centroid and moves the
//! centroids to the means of their rows. Numbers are standardised (sample deviation) and categories one-hot, as in BigQuery ML.
//! With `distance => 'cosine'` it is spherical k-means: rows count by their direction, centroids have length 1 and the distance
//! is √(1 − cos).
//!
//! **Trade-offs.** Fast and simple, at the price of a k that must be chosen, of segments that are round, and of a local optimum:
//! `starts` takes the best of several.
//!
//! **Same rows and seed, same model:** rows are put into the order of their content before anything is drawn or summed, so
//! neither their order nor partitions nor threads show.
//!
//! References: Lloyd (1982), *Least squares quantization in PCM*; Arthur & Vassilvitskii (2007), *k-means++: the advantages of
//! careful seeding*; Dhillon & Modha (2001), *Concept decompositions for large sparse text data using clustering*.

mod settings;
mod start;

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type, Schema};
use hashbrown::HashSet;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;

use self::settings::{Init, KEEP_SCORES, OPTIONS, Settings, VERB_OPTIONS, start_column};
use self::start::{encode_given, marked_rows, start_points};
use crate::error::{Error, Result};
use crate::features::encode::{mix, table_column};
use crate::features::{Block, Encoder, EncoderOptions, NumberColumn, Scaling};
use crate::kernels;
use crate::kernels::assign::{
    Centroids, Lloyd, Metric, Stop, Sums, closest_f32, nearest_f32, own_distances_f32, partial_count, potentials_f32,
    squared_norm, sums_f32,
};
use crate::models::anomalies::{Thresholds, without_scores};
use crate::models::coordinates::{coordinate_lists, coordinate_type, read_coordinates};
use crate::models::feature_values::{FeatureValues, feature_value_table};
use crate::models::{
    Artefact, FeatureColumn, FitContext, Fitted, MemoryRows, Model, ModelType, Parts, Pass, Roles, Rows, TrainingInfo,
    feature_roles, field,
};
use crate::options::{OptionSpec, Options, Value};

const VERB: &str = "KMEANS_SEGMENT";

/// Categories that a text column keeps; the others count as one.
pub(super) const MAX_CATEGORIES: usize = 1000;

/// Passes that a start takes, more or less, for weighing devices.
const EXPECTED_PASSES: usize = 30;

/// How many centroids `NEAREST_CENTROIDS_DISTANCE` lists.
const MAX_NEAREST: usize = 5;

/// The model type `kmeans`, verb `KMEANS_SEGMENT`.
#[derive(Debug, Clone, Copy)]
pub struct KMeans;

impl ModelType for KMeans {
    fn name(&self) -> &'static str {
        "kmeans"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["k-means", "k_means"]
    }

    fn verb(&self) -> &'static str {
        VERB
    }

    fn summary(&self) -> &'static str {
        "Finds k segments of rows that are near each other: Lloyd's k-means from a greedy k-means++ start (Arthur & Vassilvitskii 2007). \
         Segment 1 is the largest. The training loss is the mean squared distance of the rows to their centroids, in encoded units."
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn verb_options(&self) -> &'static [OptionSpec] {
        &VERB_OPTIONS
    }

    fn statement_defaults(&self) -> &'static [(&'static str, &'static str)] {
        &[("early_stop", "true"), ("max_iterations", "20")]
    }

    fn stored_fit_options(&self, options: &Options) -> Options {
        options.clone().with(KEEP_SCORES, Value::Bool(true))
    }

    fn verb_fields(&self) -> Vec<FieldRef> {
        vec![
            field("segment", DataType::Int64),
            field("segment_distance", DataType::Float64),
        ]
    }

    fn roles(&self, schema: &Schema, options: &Options) -> Result<Roles> {
        let start = start_column(options, schema)?;
        let taken: Vec<(usize, &str)> = start.map(|i| (i, "init_col")).into_iter().collect();
        let features = feature_roles(VERB, schema, options, &taken)?;
        Settings::read(options, schema, &features, start)?;
        Ok(Roles {
            features,
            start,
            ..Roles::default()
        })
    }

    fn fit(&self, rows: &dyn Rows, roles: &Roles, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        let (model, info) = fit(rows, roles, options, context)?;
        Ok(Fitted {
            model: Arc::new(model),
            info,
            row_scores: None,
        })
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(KMeansModel::from_artefact(artefact)?))
    }
}

/// Segments rows given as arrays, all of them features: one array and one name a feature, of the same length.
///
/// # Errors
/// As [`ModelType::roles`] and [`ModelType::fit`].
pub fn fit_arrays(
    columns: &[ArrayRef],
    names: &[String],
    options: &Options,
    context: &FitContext<'_>,
) -> Result<Fitted> {
    let fields: Vec<Field> = columns
        .iter()
        .zip(names)
        .map(|(c, n)| Field::new(n, c.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.to_vec())?;
    let roles = KMeans.roles(&schema, options)?;
    KMeans.fit(&MemoryRows::new(schema, vec![batch]), &roles, options, context)
}

fn fit(
    rows: &dyn Rows,
    roles: &Roles,
    options: &Options,
    context: &FitContext<'_>,
) -> Result<(KMeansModel, TrainingInfo)> {
    let features = &roles.features[..];
    let settings = Settings::read(options, &rows.schema(), features, roles.start)?;
    let row_count = rows.row_count();
    if row_count == 0 {
        return Err(Error::data(format!(
            "{VERB}: the query gives no rows; there is nothing to learn from"
        )));
    }
    let marked = match settings.init {
        Init::Marked(column) => marked_rows(rows, column, context)?,
        _ => vec![],
    };
    let warm = settings.go_on_from(context.start)?;
    let k = match warm {
        Some(model) => model.ids.len(),
        None => settings.segment_count(row_count, marked.len())?,
    };
    context
        .observer
        .started("k-means", row_count, settings.starts * settings.max_iterations);
    let mut info = TrainingInfo {
        row_count: row_count as u64,
        ..TrainingInfo::default()
    };
    let mut notice = |notice: String| {
        context.observer.notice(&notice);
        info.notices.push(notice);
    };

    let encoding = EncoderOptions {
        scaling: if settings.standardize {
            Scaling::SampleDeviation
        } else {
            Scaling::None
        },
        // Distances do not change, but rounding does: far from 0 the squares would drown them.
        center: settings.metric == Metric::Euclidean,
        max_categories: MAX_CATEGORIES,
    };
    let (encoder, notices) = Encoder::learn(rows, features, &encoding, context)?;
    notices.into_iter().for_each(&mut notice);
    let block = encoder.encode_rows::<f32>(rows, features, context)?;
    let given = match &settings.init {
        _ if warm.is_some() => warm.map(|model| model.encoded_by(&encoder)),
        Init::Given(rows) => Some(encode_given(&encoder, &block, settings.metric, rows)),
        Init::Marked(_) => Some(start_points(&block, settings.metric, &marked)),
        _ => None,
    };
    let (block, distinct_count) = order_by_content(block, context)?;
    let data = Data {
        block,
        k,
        distinct_count,
        settings: &settings,
        context,
    };
    data.take_memory()?;

    let expected_passes = settings.starts * settings.max_iterations.min(EXPECTED_PASSES);
    let mut lloyd = Lloyd::new(
        &data.block,
        settings.metric,
        data.cluster_count(),
        expected_passes,
        context.compute,
    );
    let tolerance = settings.tolerance * data.mean_variance(lloyd.total_square());
    let mut best: Option<Run> = None;
    let mut passes = vec![];
    let mut best_pass = 0;
    for start in 0..settings.starts {
        let begin = match &given {
            Some(values) => values.clone(),
            None => data.seeds(start)?,
        };
        let run = data.lloyd(&mut lloyd, start, begin, tolerance, &mut passes)?;
        if best.as_ref().is_none_or(|b| run.inertia < b.inertia) {
            best = Some(run);
            best_pass = passes.len().saturating_sub(1);
        }
    }
    let Some(mut run) = best else {
        return Err(Error::data(format!(
            "{VERB}: no start was made; starts must be at least 1"
        )));
    };

    let labels = std::mem::take(&mut run.labels);
    let mut model = KMeansModel::new(encoder, run, row_count);
    if let Some(before) = warm.filter(|before| before.ids.len() == model.ids.len()) {
        // A segment that goes on keeps its number.
        model.ids.clone_from(&before.ids);
    }
    if options.bool(KEEP_SCORES, false) {
        context
            .memory
            .take(2 * row_count * size_of::<f64>(), "the distances of the rows")?;
        let distances = own_distances_f32(&data.block, &model.centroids, &labels, context.compute.pool);
        let scores = labels.iter().zip(&distances);
        let scores = scores.map(|(label, square)| model.normalized(*label as usize, square.sqrt()));
        model.thresholds = Some(Thresholds::of(scores.collect(), context.compute.pool));
    }
    if let Some(pass) = passes.get_mut(best_pass) {
        pass.clusters = model.clusters();
    }
    info.passes = passes;
    let found = model.ids.len();
    if found < k {
        let why = if data.distinct_count <= found {
            format!(
                "the rows have only {} distinct combinations of features",
                data.distinct_count
            )
        } else {
            "the rows have no more points that are apart".to_string()
        };
        let notice = format!("{why}, so there are {found} segments instead of {k}");
        context.observer.notice(&notice);
        info.notices.push(notice);
    }
    Ok((model, info))
}

/// Row `row` as coordinates, at length 1 under the cosine distance.
fn point(block: &Block<f32>, metric: Metric, row: usize, into: &mut Vec<f64>) {
    let begin = into.len();
    into.extend(block.row_numbers(row).iter().map(|x| f64::from(*x)));
    into.resize(begin + block.width(), 0.0);
    let offsets = block.code_offsets();
    for ((code, level), offset) in block.row_codes(row).iter().zip(&block.levels).zip(offsets) {
        if code < level {
            into[begin + offset + *code as usize] = 1.0;
        }
    }
    if metric == Metric::Cosine {
        normalise(&mut into[begin..]);
    }
}

fn lexicographic(a: &[f64], b: &[f64]) -> Ordering {
    a.iter()
        .zip(b)
        .map(|(a, b)| a.total_cmp(b))
        .find(|o| *o != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

/// A hash of an encoded row's content.
fn content_hash(numbers: &[f32], codes: &[u32]) -> u64 {
    let mut hash = 0x51_7C_C1_B7_27_22_0A_95;
    for x in numbers {
        // Adding 0 makes −0 and 0 one.
        hash = mix(hash, u64::from((x + 0.0).to_bits()));
    }
    for code in codes {
        hash = mix(hash, u64::from(*code));
    }
    hash
}

/// The same rows ordered by a hash of their content, and how many distinct ones there are. Afterwards a position is as good as
/// random, equal rows are neighbours, and nothing depends on how the rows came.
pub(super) fn order_by_content(block: Block<f32>, context: &FitContext<'_>) -> Result<(Block<f32>, usize)> {
    const ROWS: usize = 4096;
    let (count, width, code_count) = (block.row_count, block.number_count, block.code_count);
    let bytes = size_of_val(&block.numbers[..]) + size_of_val(&block.codes[..]);
    context
        .memory
        .take(bytes + count * size_of::<(u64, usize)>(), "ordering the rows")?;
    context.check_cancelled()?;
    let (mut numbers, mut codes) = (vec![0f32; block.numbers.len()], vec![0u32; block.codes.len()]);
    let distinct_count = context.compute.pool.install(|| {
        let key = |row: usize| (content_hash(block.row_numbers(row), block.row_codes(row)), row);
        let mut keys: Vec<(u64, usize)> = (0..count).into_par_iter().with_min_len(ROWS).map(key).collect();
        keys.par_sort_unstable();
        if width > 0 {
            numbers
                .par_chunks_mut(ROWS * width)
                .zip(keys.par_chunks(ROWS))
                .for_each(|(into, keys)| {
                    for (into, (_, row)) in into.chunks_exact_mut(width).zip(keys) {
                        into.copy_from_slice(block.row_numbers(*row));
                    }
                });
        }
        if code_count > 0 {
            codes
                .par_chunks_mut(ROWS * code_count)
                .zip(keys.par_chunks(ROWS))
                .for_each(|(into, keys)| {
                    for (into, (_, row)) in into.chunks_exact_mut(code_count).zip(keys) {
                        into.copy_from_slice(block.row_codes(*row));
                    }
                });
        }
        usize::from(!keys.is_empty()) + keys.windows(2).filter(|pair| pair[0].0 != pair[1].0).count()
    });
    Ok((
        Block {
            numbers,
            codes,
            ..block
        },
        distinct_count,
    ))
}

/// What one start ended with: centroids in the order by which ties are decided.
pub(super) struct Run {
    pub(super) centroids: Centroids,
    /// Rows of each cluster.
    pub(super) rows: Vec<i64>,
    /// Sum of squared distances of each cluster.
    pub(super) squares: Vec<f64>,
    pub(super) inertia: f64,
    /// The cluster of each row.
    pub(super) labels: Vec<u32>,
}

/// At most `k` clusters of rows that are ordered by content, after at most `passes` passes: for models that summarise rows so.
pub(super) fn cluster(
    block: Block<f32>,
    distinct_count: usize,
    (k, passes): (usize, usize),
    context: &FitContext<'_>,
) -> Result<(Block<f32>, Run)> {
    let options = Options::default()
        .with("k", Value::Int(k as i64))
        .with("max_iterations", Value::Int(passes as i64));
    let settings = Settings::read(&options, &Schema::empty(), &[], None)?;
    let data = Data {
        block,
        k,
        distinct_count,
        settings: &settings,
        context,
    };
    data.take_memory()?;
    let (metric, count) = (data.metric(), data.cluster_count());
    let mut lloyd = Lloyd::new(&data.block, metric, count, passes, context.compute);
    let tolerance = settings.tolerance * data.mean_variance(lloyd.total_square());
    let run = data.lloyd(&mut lloyd, 0, data.seeds(0)?, tolerance, &mut vec![])?;
    drop(lloyd);
    Ok((data.block, run))
}

/// The rows, ordered by content, and what is to be done with them.
struct Data<'a> {
    block: Block<f32>,
    /// How many segments are wanted.
    k: usize,
    distinct_count: usize,
    settings: &'a Settings,
    context: &'a FitContext<'a>,
}

impl Data<'_> {
    fn take_memory(&self) -> Result<()> {
        let (rows, k, width) = (self.block.row_count, self.k, self.block.width());
        let labels = rows * (size_of::<u32>() + size_of::<f32>());
        let sums = (partial_count(rows, k, width) + 6 * k * width) * size_of::<f64>();
        self.context.memory.take(labels + sums, "k-means")
    }

    /// How many clusters there can be at most.
    fn cluster_count(&self) -> usize {
        self.k.min(self.distinct_count)
    }

    fn metric(&self) -> Metric {
        self.settings.metric
    }

    fn hash(&self, row: usize) -> u64 {
        content_hash(self.block.row_numbers(row), self.block.row_codes(row))
    }

    fn centroids(&self, values: Vec<f64>) -> Centroids {
        let count = values.len() / self.block.width().max(1);
        Centroids::new(
            self.metric(),
            count,
            self.block.number_count,
            &self.block.levels,
            values,
        )
    }

    /// The mean variance of the encoded columns, by which the tolerance is measured.
    fn mean_variance(&self, total_square: f64) -> f64 {
        let sums = sums_f32(&self.block, self.metric(), 1, None, self.context.compute.pool);
        let n = self.block.row_count as f64;
        let mean_square: f64 = sums.row(0).iter().map(|s| (s / n) * (s / n)).sum();
        (total_square / n - mean_square).max(0.0) / self.block.width().max(1) as f64
    }

    /// Whether row `row` is another than the one before it: equal rows are neighbours.
    fn is_first_of_its_kind(&self, row: usize) -> bool {
        row == 0
            || self.block.row_numbers(row) != self.block.row_numbers(row - 1)
            || self.block.row_codes(row) != self.block.row_codes(row - 1)
    }

    /// Where the centroids of start `start` begin.
    fn seeds(&self, start: usize) -> Result<Vec<f64>> {
        let mut stream = Pcg64::seed_from_u64(self.context.seed);
        let mut random = Pcg64::new(stream.random(), start as u128);
        let rows = match self.settings.init {
            Init::Random => self.random_rows(&mut random),
            _ => self.plus_plus_rows(&mut random)?,
        };
        let mut values = Vec::with_capacity(rows.len() * self.block.width());
        for row in rows {
            point(&self.block, self.metric(), row, &mut values);
        }
        Ok(values)
    }

    /// Distinct rows, each row as likely as any other.
    fn random_rows(&self, random: &mut Pcg64) -> Vec<usize> {
        let (k, count) = (self.cluster_count(), self.block.row_count);
        let mut seen = HashSet::new();
        let mut rows = vec![];
        for _ in 0..20 * k {
            let row = random.random_range(0..count);
            if rows.len() < k && seen.insert(self.hash(row)) {
                rows.push(row);
            }
        }
        // Some rows may be too rare to be drawn by chance: take them in turn.
        let begin = random.random_range(0..count);
        for i in 0..count {
            if rows.len() >= k {
                break;
            }
            let row = (begin + i) % count;
            if self.is_first_of_its_kind(row) && seen.insert(self.hash(row)) {
                rows.push(row);
            }
        }
        rows
    }

    /// Greedy k-means++: each seed is the best of several candidates, drawn in proportion to the squared distance to the seeds
    /// so far. Many clusters are seeded from a systematic sample of the rows, which are in the order of a hash.
    fn plus_plus_rows(&self, random: &mut Pcg64) -> Result<Vec<usize>> {
        let k = self.cluster_count();
        let (sample, candidates) = match k {
            0..=100 => (1 << 22, 2 + (k as f64).ln() as usize),
            101..=1000 => ((50 * k).max(1 << 16), 2 + (k as f64).ln() as usize),
            _ => (16 * k, 1),
        };
        let count = self.block.row_count;
        let mut rows = vec![];
        if count > sample {
            let offset: f64 = random.random();
            let drawn: Vec<usize> = (0..sample)
                .map(|i| (((i as f64 + offset) / sample as f64 * count as f64) as usize).min(count - 1))
                .collect();
            let block = self.rows_of(&drawn)?;
            self.grow(&block, &mut rows, k, candidates, random)?;
            rows.iter_mut().for_each(|row| *row = drawn[*row]);
        }
        if rows.len() < k {
            self.grow(&self.block, &mut rows, k, candidates, random)?;
        }
        Ok(rows)
    }

    /// A copy of some rows.
    fn rows_of(&self, rows: &[usize]) -> Result<Block<f32>> {
        let all = &self.block;
        self.context.memory.take(
            rows.len() * 4 * (all.number_count + all.code_count + 1),
            "the sample for the first centroids",
        )?;
        Ok(Block {
            row_count: rows.len(),
            numbers: rows.iter().flat_map(|row| all.row_numbers(*row)).copied().collect(),
            codes: rows.iter().flat_map(|row| all.row_codes(*row)).copied().collect(),
            number_count: all.number_count,
            code_count: all.code_count,
            levels: all.levels.clone(),
        })
    }

    /// Adds rows of `block` to `seeds` until there are `k`, or until all rows coincide with one.
    fn grow(
        &self,
        block: &Block<f32>,
        seeds: &mut Vec<usize>,
        k: usize,
        candidates: usize,
        random: &mut Pcg64,
    ) -> Result<()> {
        let (metric, pool) = (self.metric(), self.context.compute.pool);
        if seeds.is_empty() {
            seeds.push(self.first_seed(block, random));
        }
        let mut closest = vec![f32::MAX; block.row_count];
        let mut potential = None;
        for seed in seeds.iter() {
            self.context.check_cancelled()?;
            potential = Some(closest_f32(block, metric, *seed, &mut closest, pool));
        }
        while let Some(sums) = potential.take() {
            if seeds.len() >= k || sums.total() <= 0.0 {
                break;
            }
            self.context.check_cancelled()?;
            let draws: Vec<f64> = (0..candidates).map(|_| random.random()).collect();
            let drawn: Vec<usize> = draws
                .into_iter()
                .filter_map(|share| sums.row_at(&closest, share))
                .collect();
            let best = if drawn.len() > 1 {
                let sums = potentials_f32(block, metric, &drawn, &closest, pool);
                sums.iter()
                    .zip(&drawn)
                    .min_by(|a, b| a.0.total_cmp(b.0))
                    .map(|(_, row)| *row)
            } else {
                drawn.first().copied()
            };
            let Some(row) = best else { break };
            seeds.push(row);
            potential = Some(closest_f32(block, metric, row, &mut closest, pool));
        }
        Ok(())
    }

    fn first_seed(&self, block: &Block<f32>, random: &mut Pcg64) -> usize {
        let count = block.row_count;
        let mut row = random.random_range(0..count);
        if self.metric() == Metric::Euclidean {
            return row;
        }
        // Only a row with a direction will do.
        for _ in 0..64 {
            if squared_norm(block, row) > 0.0 {
                return row;
            }
            row = random.random_range(0..count);
        }
        (0..count)
            .map(|i| (row + i) % count)
            .find(|row| squared_norm(block, *row) > 0.0)
            .unwrap_or(row)
    }

    /// Whether the last pass took away as much of the loss as there must be for another.
    fn goes_on(&self, passes: &[Pass]) -> bool {
        let Some(least) = self.settings.min_progress else {
            return false;
        };
        match passes {
            [.., before, last] => match (before.loss, last.loss) {
                (Some(before), Some(last)) => before > 0.0 && (before - last) / before >= least,
                _ => true,
            },
            _ => true,
        }
    }

    /// Passes from centroids that begin at `values` until nothing changes, the shift is within `tolerance`, there is too little
    /// progress, or there were enough.
    fn lloyd(
        &self,
        rows: &mut Lloyd<'_>,
        start: usize,
        values: Vec<f64>,
        tolerance: f64,
        passes: &mut Vec<Pass>,
    ) -> Result<Run> {
        let mut state = rows.start(values);
        let count = state.centroids.count();
        let first_pass = passes.len();
        let mut left = self.settings.max_iterations;
        loop {
            let mut tell = |pass: kernels::assign::Pass| {
                let pass = Pass {
                    training_run: start as i64,
                    iteration: (passes.len() - first_pass) as i64,
                    loss: Some(pass.loss),
                    duration_ms: pass.duration_ms,
                    clusters: vec![],
                };
                self.context.observer.pass(&pass);
                passes.push(pass);
            };
            // Progress is looked at after each pass.
            let limit = if self.settings.min_progress.is_some() {
                left.min(1)
            } else {
                left
            };
            let stop = rows.run(&mut state, limit, tolerance, &mut tell)?;
            left = self.settings.max_iterations - (passes.len() - first_pass);
            if stop == Stop::Limit && left > 0 && self.goes_on(&passes[first_pass..]) {
                continue;
            }
            if stop != Stop::Empty {
                break;
            }
            let moved = self.reseed_empty(&state.centroids, &mut state.labels, &mut state.sums);
            state.changed = state.changed.map(|changed| changed + moved);
            rows.moved();
        }

        // The sums that followed the rows carry the rounding of every move; these do not. Labels are those of the final
        // centroids, so that scoring the same rows again gives the same segments.
        for _ in 0..9 {
            rows.settle(&mut state)?;
            if !state.sums.rows.contains(&0)
                || self.reseed_empty(&state.centroids, &mut state.labels, &mut state.sums) == 0
            {
                break;
            }
            rows.moved();
        }
        let squares = rows.inertia(&state);
        let inertia = squares.iter().sum::<f64>();
        if let Some(last) = passes[first_pass..].last_mut() {
            last.loss = Some(inertia / self.block.row_count as f64);
        }
        let (centroids, sums) = (&state.centroids, &state.sums);
        let kept: Vec<usize> = (0..count).filter(|j| sums.rows[*j] > 0).collect();
        let values = kept.iter().flat_map(|j| centroids.row(*j)).copied().collect();
        let mut place = vec![0; count];
        for (i, j) in (0..).zip(&kept) {
            place[*j] = i;
        }
        let mut labels = std::mem::take(&mut state.labels);
        labels.iter_mut().for_each(|label| *label = place[*label as usize]);
        Ok(Run {
            centroids: self.centroids(values),
            rows: kept.iter().map(|j| sums.rows[*j]).collect(),
            squares: kept.iter().map(|j| squares[*j]).collect(),
            inertia,
            labels,
        })
    }

    /// Gives each empty cluster the row that is farthest from its centroid; says how many rows moved. Of equal rows only one
    /// is taken, none that coincides with its centroid, and none that is the last of its cluster.
    fn reseed_empty(&self, centroids: &Centroids, labels: &mut [u32], sums: &mut Sums) -> usize {
        let empty: Vec<usize> = (0..centroids.count()).filter(|j| sums.rows[*j] == 0).collect();
        let distances = own_distances_f32(&self.block, centroids, labels, self.context.compute.pool);
        let apart = |row: usize, distance: f64| match self.metric() {
            // Distinct rows of f32 differ by far more than a mean of equal rows is off.
            Metric::Euclidean => distance > 1e-20 * squared_norm(&self.block, row),
            Metric::Cosine => distance > 1e-11 && squared_norm(&self.block, row) > 0.0,
        };
        let mut far: Vec<(f64, usize)> = distances
            .into_iter()
            .enumerate()
            .filter(|(row, d)| *d > 0.0 && self.is_first_of_its_kind(*row) && apart(*row, *d))
            .map(|(row, d)| (d, row))
            .collect();
        let farther = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        far.sort_unstable_by(farther);
        let mut empty = empty.into_iter();
        let mut moved = 0;
        for (_, row) in far {
            let from = labels[row] as usize;
            if sums.rows[from] <= 1 {
                continue;
            }
            let Some(to) = empty.next() else { break };
            sums.move_row(&self.block, row, from, to);
            labels[row] = to as u32;
            moved += 1;
        }
        moved
    }
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Makes the length 1, unless it is 0.
fn normalise(v: &mut [f64]) {
    let length = length(v);
    if length > 0.0 {
        v.iter_mut().for_each(|x| *x /= length);
    }
}

/// A centroid as people read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Centroid {
    /// Its segment, from 1.
    pub id: i64,
    /// Training rows in it.
    pub size: i64,
    /// Root-mean-square distance of its training rows, in encoded units.
    pub radius: f64,
    /// Each number feature with the centroid's value, in the units of the feature; under the cosine distance a direction, in
    /// encoded units.
    pub numbers: Vec<(String, f64)>,
    /// Each category column with its categories' shares.
    pub categories: Vec<(String, Vec<(String, f64)>)>,
}

/// A trained k-means model.
#[derive(Debug)]
pub struct KMeansModel {
    pub(super) encoder: Encoder,
    metric: Metric,
    /// In the order by which ties are decided.
    pub(super) centroids: Centroids,
    /// The segment of each centroid.
    pub(super) ids: Vec<i64>,
    sizes: Vec<i64>,
    radii: Vec<f64>,
    mean_squared_distance: f64,
    /// The normalised distances of the training rows.
    thresholds: Option<Thresholds>,
}

impl KMeansModel {
    pub(super) fn new(encoder: Encoder, run: Run, row_count: usize) -> Self {
        let count = run.rows.len();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| {
            run.rows[*b]
                .cmp(&run.rows[*a])
                .then_with(|| lexicographic(run.centroids.row(*a), run.centroids.row(*b)))
        });
        let mut ids = vec![0; count];
        for (id, j) in (1..).zip(&order) {
            ids[*j] = id;
        }
        let radii = run
            .squares
            .iter()
            .zip(&run.rows)
            .map(|(s, n)| (s / (*n).max(1) as f64).sqrt())
            .collect();
        Self {
            encoder,
            metric: run.centroids.metric(),
            centroids: run.centroids,
            ids,
            sizes: run.rows,
            radii,
            mean_squared_distance: run.inertia / row_count as f64,
            thresholds: None,
        }
    }

    /// The positions of segments 1, 2, … among the centroids.
    fn by_id(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_unstable_by_key(|j| self.ids[*j]);
        order
    }

    /// (centroid_id, root-mean-square radius, rows) of each segment.
    pub(super) fn clusters(&self) -> Vec<(i64, f64, i64)> {
        self.by_id()
            .into_iter()
            .map(|j| (self.ids[j], self.radii[j], self.sizes[j]))
            .collect()
    }

    /// The mean squared distance of the training rows to their centroids, in encoded units.
    pub fn mean_squared_distance(&self) -> f64 {
        self.mean_squared_distance
    }

    /// The centroids by segment, numbers in the units of the features, or as they are encoded if `standardize`.
    pub fn centroids(&self, standardize: bool) -> Vec<Centroid> {
        let of = |j: usize| {
            let in_units = |n: &NumberColumn, value: f64| match self.metric {
                Metric::Euclidean if !standardize => value * n.scale + n.shift,
                _ => value,
            };
            let values = FeatureValues::of(self.ids[j], &self.encoder, self.centroids.row(j), in_units);
            Centroid {
                id: values.id,
                size: self.sizes[j],
                radius: self.radii[j],
                numbers: values.numbers,
                categories: values.categories,
            }
        };
        self.by_id().into_iter().map(of).collect()
    }

    pub(super) fn from_artefact(artefact: &Artefact) -> Result<Self> {
        let encoder = Encoder::from_artefact(artefact)?;
        let metric = match artefact.setting::<String>("distance")?.as_str() {
            "euclidean" => Metric::Euclidean,
            "cosine" => Metric::Cosine,
            other => return Err(artefact.corrupt(format!("its distance is '{other}', which is none"))),
        };
        let table = artefact.table("centroids")?;
        let integers = |name: &str| table_column(artefact, table, name, &DataType::Int64);
        let (ids, sizes, order) = (integers("centroid_id")?, integers("size")?, integers("tie_order")?);
        let radii = table_column(artefact, table, "radius", &DataType::Float64)?;
        let coordinates = table_column(artefact, table, "coordinates", &coordinate_type())?;
        let (ids, sizes, order) = (
            ids.as_primitive::<Int64Type>(),
            sizes.as_primitive::<Int64Type>(),
            order.as_primitive::<Int64Type>(),
        );
        let (radii, coordinates) = (radii.as_primitive::<Float64Type>(), coordinates.as_list::<i32>());

        let count = table.num_rows();
        let columns: [&dyn Array; 5] = [ids, sizes, order, radii, coordinates];
        let is_permutation = |values: &Int64Array, first: i64| {
            let mut values: Vec<i64> = values.values().to_vec();
            values.sort_unstable();
            values.into_iter().eq(first..first + count as i64)
        };
        if count == 0
            || columns.iter().any(|c| c.null_count() > 0)
            || !is_permutation(ids, 1)
            || !is_permutation(order, 0)
        {
            return Err(artefact.corrupt("its centroids are not numbered"));
        }
        let width = encoder.numbers().len() + encoder.levels().iter().map(|l| *l as usize).sum::<usize>();
        let mut model_rows: Vec<usize> = (0..count).collect();
        model_rows.sort_unstable_by_key(|i| order.value(*i));
        let mut values = Vec::with_capacity(count * width);
        for i in &model_rows {
            let what = format!("centroid {}", ids.value(*i));
            read_coordinates(artefact, coordinates, *i, width, &what, &mut values)?;
        }
        Ok(Self {
            centroids: Centroids::new(metric, count, encoder.numbers().len(), &encoder.levels(), values),
            metric,
            encoder,
            ids: model_rows.iter().map(|i| ids.value(*i)).collect(),
            sizes: model_rows.iter().map(|i| sizes.value(*i)).collect(),
            radii: model_rows.iter().map(|i| radii.value(*i)).collect(),
            mean_squared_distance: artefact.setting("mean_squared_distance")?,
            thresholds: Thresholds::from_artefact(artefact)?,
        })
    }

    /// The segments of rows by the positions of their centroids.
    pub(super) fn segments(&self, labels: &[u32]) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(
            labels.iter().map(|label| self.ids[*label as usize]),
        ))
    }
}

fn nearest_field() -> FieldRef {
    field("item", DataType::Struct(nearest_fields()))
}

fn nearest_fields() -> Fields {
    Fields::from(vec![
        field("CENTROID_ID", DataType::Int64),
        field("DISTANCE", DataType::Float64),
    ])
}

impl KMeansModel {
    /// Davies & Bouldin (1979), *A Cluster Separation Measure*, of clusters with these root-mean-square radii (none: no row): how much
    /// a cluster and the one most like it overlap, on average; the lower, the better apart. None with fewer than two clusters.
    fn davies_bouldin_index(&self, radii: &[Option<f64>]) -> Option<f64> {
        let clusters: Vec<(usize, f64)> = radii
            .iter()
            .enumerate()
            .filter_map(|(j, radius)| radius.map(|r| (j, r)))
            .collect();
        if clusters.len() < 2 {
            return None;
        }
        let apart = |a: usize, b: usize| {
            let differences = self.centroids.row(a).iter().zip(self.centroids.row(b));
            differences.map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt()
        };
        let worst = |(a, radius): &(usize, f64)| {
            clusters
                .iter()
                .filter(|(b, _)| b != a)
                .map(|(b, other)| (radius + other) / apart(*a, *b).max(f64::MIN_POSITIVE))
                .fold(0.0, f64::max)
        };
        Some(clusters.iter().map(worst).sum::<f64>() / clusters.len() as f64)
    }

    /// The columns of `ML.PREDICT` for encoded rows.
    pub(super) fn predict_block(&self, block: &Block<f32>) -> Result<Vec<ArrayRef>> {
        let labels = nearest_f32(block, &self.centroids);
        let listed = self.ids.len().min(MAX_NEAREST);
        let (mut ids, mut distances) = (vec![], vec![]);
        let mut squares = vec![];
        let mut order: Vec<usize> = vec![];
        for (row, label) in labels.iter().enumerate() {
            self.centroids.distances_squared(block, row, &mut squares);
            // The row's own segment leads, also where another ties with it.
            let key = |j: &usize| if *j == *label as usize { -1.0 } else { squares[*j] };
            let nearer = |a: &usize, b: &usize| key(a).total_cmp(&key(b)).then(self.ids[*a].cmp(&self.ids[*b]));
            order.clear();
            order.extend(0..self.ids.len());
            if listed < order.len() {
                order.select_nth_unstable_by(listed, nearer);
                order.truncate(listed);
            }
            order.sort_unstable_by(nearer);
            ids.extend(order.iter().map(|j| self.ids[*j]));
            distances.extend(order.iter().map(|j| squares[*j].sqrt()));
        }
        let values: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(Float64Array::from(distances))];
        let values = StructArray::try_new(nearest_fields(), values, None)?;
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(listed, labels.len()));
        let nearest = ListArray::try_new(nearest_field(), offsets, Arc::new(values), None)?;
        Ok(vec![self.segments(&labels), Arc::new(nearest)])
    }

    /// The metrics of `ML.EVALUATE` of rows, where `labels` gives the positions of encoded rows' centroids.
    pub(super) fn judge(
        &self,
        rows: &dyn Rows,
        stop: &dyn Fn() -> bool,
        labels: &dyn Fn(&Block<f32>) -> Vec<u32>,
    ) -> Result<RecordBatch> {
        let count = self.centroids.count();
        let (mut sizes, mut squares) = (vec![0u64; count], vec![0f64; count]);
        for index in 0..rows.batch_count() {
            if stop() {
                return Err(Error::cancelled());
            }
            let block = self.encoder.encode::<f32>(rows.batch(index)?.columns())?;
            for (row, label) in labels(&block).into_iter().enumerate() {
                sizes[label as usize] += 1;
                squares[label as usize] += self.centroids.distance_squared(&block, row, label as usize);
            }
        }
        let row_count: u64 = sizes.iter().sum();
        let radii: Vec<Option<f64>> = sizes
            .iter()
            .zip(&squares)
            .map(|(n, s)| (*n > 0).then(|| (s / *n as f64).sqrt()))
            .collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(vec![self.davies_bouldin_index(&radii)])),
            Arc::new(Float64Array::from(vec![squares.iter().sum::<f64>() / row_count as f64])),
        ];
        let fields = self.assess_fields("EVALUATE").unwrap_or_default();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// BigQuery ML's table of the centroids: a row for each feature of each.
    fn centroid_table(&self, standardize: bool) -> Result<RecordBatch> {
        let of = |centroid: Centroid| FeatureValues {
            id: centroid.id,
            numbers: centroid.numbers,
            categories: centroid.categories,
        };
        feature_value_table("centroid_id", self.centroids(standardize).into_iter().map(of).collect())
    }

    /// A row's distance to its centroid over the root-mean-square distance of its segment's training rows; infinite where those all lie
    /// at the centroid and the row does not.
    fn normalized(&self, centroid: usize, distance: f64) -> f64 {
        // Encoded rows are of f32: what is less is rounding.
        if distance <= 1e-12 * (1.0 + length(self.centroids.row(centroid))) {
            return 0.0;
        }
        distance / self.radii[centroid]
    }

    /// The columns of `ML.DETECT_ANOMALIES`.
    fn anomaly_columns(&self, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>> {
        let thresholds = self.thresholds.as_ref().ok_or_else(without_scores)?;
        let block = self.encoder.encode::<f32>(columns)?;
        let labels = nearest_f32(&block, &self.centroids);
        let score = |(row, label): (usize, &u32)| {
            let centroid = *label as usize;
            self.normalized(centroid, self.centroids.distance_squared(&block, row, centroid).sqrt())
        };
        let scores: Vec<f64> = labels.iter().enumerate().map(score).collect();
        let flags = thresholds.flags(&scores, options);
        Ok(vec![
            flags,
            Arc::new(Float64Array::from(scores)),
            self.segments(&labels),
        ])
    }
}

impl Model for KMeansModel {
    fn model_type(&self) -> &'static str {
        KMeans.name()
    }

    fn feature_columns(&self) -> &[FeatureColumn] {
        self.encoder.feature_columns()
    }

    fn verb_fields(&self) -> Vec<FieldRef> {
        KMeans.verb_fields()
    }

    fn verb_columns(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let block = self.encoder.encode::<f32>(columns)?;
        let labels = nearest_f32(&block, &self.centroids);
        let distance =
            |(row, label): (usize, &u32)| self.centroids.distance_squared(&block, row, *label as usize).sqrt();
        let distances = Float64Array::from_iter_values(labels.iter().enumerate().map(distance));
        Ok(vec![self.segments(&labels), Arc::new(distances)])
    }

    fn score(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let block = self.encoder.encode::<f32>(columns)?;
        Ok(self.segments(&nearest_f32(&block, &self.centroids)))
    }

    fn predict_fields(&self) -> Vec<FieldRef> {
        vec![
            field("CENTROID_ID", DataType::Int64),
            field("NEAREST_CENTROIDS_DISTANCE", DataType::List(nearest_field())),
        ]
    }

    fn predict_columns(&self, columns: &[ArrayRef], _options: &Options) -> Result<Vec<ArrayRef>> {
        self.predict_block(&self.encoder.encode::<f32>(columns)?)
    }

    fn row_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        match word {
            "PREDICT" => Some(self.predict_fields()),
            "DETECT_ANOMALIES" => Some(vec![
                field("is_anomaly", DataType::Boolean),
                field("normalized_distance", DataType::Float64),
                field("centroid_id", DataType::Int64),
            ]),
            _ => None,
        }
    }

    fn row_columns(&self, word: &str, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>> {
        match word {
            "DETECT_ANOMALIES" => self.anomaly_columns(columns, options),
            _ => self.predict_columns(columns, options),
        }
    }

    fn assess_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        (word == "EVALUATE").then(|| {
            ["davies_bouldin_index", "mean_squared_distance"]
                .map(|name| field(name, DataType::Float64))
                .to_vec()
        })
    }

    fn assess(&self, _word: &str, rows: &dyn Rows, _options: &Options, stop: &dyn Fn() -> bool) -> Result<RecordBatch> {
        self.judge(rows, stop, &|block| nearest_f32(block, &self.centroids))
    }

    fn own_metrics(&self) -> Option<Vec<Option<f64>>> {
        let radii: Vec<Option<f64>> = self.radii.iter().map(|r| Some(*r)).collect();
        Some(vec![
            self.davies_bouldin_index(&radii),
            Some(self.mean_squared_distance),
        ])
    }

    fn describe(&self, word: &str, options: &Options) -> Result<Option<RecordBatch>> {
        match word {
            "CENTROIDS" => self.centroid_table(options.bool("standardize", false)).map(Some),
            _ => Ok(None),
        }
    }

    fn parts(&self) -> Result<Parts> {
        let order = self.by_id();
        let coordinates: Vec<f64> = order.iter().flat_map(|j| self.centroids.row(*j)).copied().collect();
        let coordinates = coordinate_lists(coordinates, self.centroids.width())?;
        let schema = Schema::new(vec![
            Field::new("centroid_id", DataType::Int64, false),
            Field::new("size", DataType::Int64, false),
            Field::new("radius", DataType::Float64, false),
            Field::new("tie_order", DataType::Int64, false),
            Field::new("coordinates", coordinate_type(), false),
        ]);
        let centroids = RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(Int64Array::from_iter_values(order.iter().map(|j| self.ids[*j]))),
                Arc::new(Int64Array::from_iter_values(order.iter().map(|j| self.sizes[*j]))),
                Arc::new(Float64Array::from_iter_values(order.iter().map(|j| self.radii[*j]))),
                Arc::new(Int64Array::from_iter_values(order.iter().map(|j| *j as i64))),
                Arc::new(coordinates),
            ],
        )?;
        let mut tables = self.encoder.to_tables()?;
        tables.push(("centroids".into(), centroids));
        if let Some(thresholds) = &self.thresholds {
            tables.push(thresholds.to_table()?);
        }
        let distance = if self.metric == Metric::Cosine {
            "cosine"
        } else {
            "euclidean"
        };
        let mut settings = serde_json::Map::new();
        settings.insert("distance".into(), distance.into());
        settings.insert("mean_squared_distance".into(), self.mean_squared_distance.into());
        Ok(Parts { tables, settings })
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_statement;
