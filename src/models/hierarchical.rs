//! Hierarchical clustering: the two closest clusters of rows are merged until one is left, and the tree of the merges is cut
//! where there are as many clusters as were asked for.
//!
//! **Method.** Rows are encoded as for k-means: numbers standardised (sample deviation), categories one-hot. Equal rows are one
//! leaf with their number as its weight; the tree over the leaves is exact ([`crate::kernels::linkage`]), by Ward's, average,
//! complete or single linkage. It takes n² steps, so that of more distinct rows than `max_exact_rows` micro-clusters are the
//! leaves: 2,000 clusters of k-means (or twice as many as are asked for), each with the weight of its rows.
//!
//! **Rows that come later** get the cluster of the leaf that is nearest to them, so that clusters keep whatever shape they have
//! and training rows get their own. Where a row's nearest centroid is another cluster's, that is no error: a ring has its
//! centroid in its middle.
//!
//! **Trade-offs.** The tree tells of all numbers of clusters at once, and single linkage finds clusters of any shape, at the
//! price of n² steps, of 4 bytes for each pair of rows under average and complete linkage, and of a leaf to be kept for each distinct
//! row, which every row is compared with when it is scored.
//!
//! **Same rows and seed, same model:** leaves are in the order of their content, by which ties are decided.
//!
//! References: Ward (1963), *Hierarchical grouping to optimize an objective function*; Müllner (2011), *Modern hierarchical,
//! agglomerative clustering algorithms*; Zhang, Ramakrishnan & Livny (1996), *BIRCH*, for a tree over small clusters.

mod leaves;
mod model;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::datatypes::Schema;

use self::leaves::Leaves;
use self::model::HierarchicalModel;
use crate::error::{Error, ErrorKind, Result};
use crate::features::encode::with_commas;
use crate::features::{Block, Encoder, EncoderOptions, Scaling};
use crate::kernels::assign::{Centroids, Metric, inertia_f32, partial_count, sums_f32};
use crate::kernels::linkage::{self, Linkage, Merge, Points};
use crate::models::kmeans::{self, KMeansModel, MAX_CATEGORIES, Run};
use crate::models::{
    Artefact, FEATURES, FitContext, Fitted, ID, Model, ModelType, Pass, Roles, Rows, SEED, TrainingInfo, feature_roles,
};
use crate::options::{OptionKind, OptionSpec, Options};

const NAME: &str = "HIERARCHICAL";

const CLUSTERS: i64 = 8;
const MAX_CLUSTERS: i64 = 10_000;
const MAX_EXACT_ROWS: i64 = 20_000;

/// How many micro-clusters there are at least, `max_exact_rows` allowing.
const MICRO_CLUSTERS: usize = 2_000;

/// Passes that make micro-clusters: they need not be the best, only small.
const MICRO_PASSES: usize = 10;

static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "num_clusters",
        aliases: &["k", "n_clusters"],
        kind: OptionKind::Int {
            min: 1,
            max: MAX_CLUSTERS,
        },
        default: "8",
        help: "Into how many clusters the tree is cut; there are fewer where there are fewer distinct rows.",
    },
    OptionSpec {
        name: "linkage",
        aliases: &[],
        kind: OptionKind::Choice(&["ward", "average", "complete", "single"]),
        default: "'ward'",
        help: "How far apart clusters are: by how much the sum of squares grows if they are merged, or by their rows' mean, largest or \
               least distance. 'average' and 'complete' take 4 bytes for each pair of distinct rows.",
    },
    ID,
    FEATURES,
    OptionSpec {
        name: "standardize",
        aliases: &["standardize_features"],
        kind: OptionKind::Bool,
        default: "true",
        help: "Whether numbers are divided by their sample deviation, so that each counts alike.",
    },
    OptionSpec {
        name: "max_exact_rows",
        aliases: &[],
        kind: OptionKind::Int { min: 1, max: 1_000_000 },
        default: "20000",
        help: "To so many distinct rows the tree is exact; of more, 2,000 micro-clusters by k-means are merged.",
    },
    SEED,
];

/// The model type `hierarchical`, which is used by `ML.PREDICT`.
#[derive(Debug, Clone, Copy)]
pub struct Hierarchical;

impl ModelType for Hierarchical {
    fn name(&self) -> &'static str {
        "hierarchical"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["hierarchical_clustering", "agglomerative"]
    }

    fn verb(&self) -> &'static str {
        "ML.PREDICT"
    }

    fn summary(&self) -> &'static str {
        "Merges the two closest clusters of rows until one is left, and cuts the tree into as many as were asked for: agglomerative \
         clustering by Ward's, average, complete or single linkage. Cluster 1 is the largest; a row gets the cluster of the training row \
         nearest to it."
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn roles(&self, schema: &Schema, options: &Options) -> Result<Roles> {
        Settings::read(options)?;
        Ok(Roles {
            features: feature_roles(NAME, schema, options, &[])?,
            ..Roles::default()
        })
    }

    fn fit(&self, rows: &dyn Rows, roles: &Roles, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        let (model, info) = fit(rows, &roles.features, options, context)?;
        Ok(Fitted {
            model: Arc::new(model),
            info,
            row_scores: None,
        })
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(HierarchicalModel::from_artefact(artefact)?))
    }
}

/// The options, checked.
#[derive(Debug, Clone, PartialEq)]
struct Settings {
    cluster_count: usize,
    linkage: Linkage,
    standardize: bool,
    max_exact_rows: usize,
}

impl Settings {
    fn read(options: &Options) -> Result<Self> {
        let cluster_count = options.int("num_clusters", CLUSTERS).max(1) as usize;
        let max_exact_rows = options.int("max_exact_rows", MAX_EXACT_ROWS).max(1) as usize;
        if cluster_count > max_exact_rows {
            return Err(Error::request(format!(
                "{NAME}: num_clusters is {cluster_count} and max_exact_rows {max_exact_rows}, but a tree of at most {max_exact_rows} \
                 leaves has no {cluster_count} clusters; write max_exact_rows => {cluster_count} or more"
            )));
        }
        Ok(Self {
            cluster_count,
            linkage: match options.text("linkage") {
                Some("average") => Linkage::Average,
                Some("complete") => Linkage::Complete,
                Some("single") => Linkage::Single,
                _ => Linkage::Ward,
            },
            standardize: options.bool("standardize", true),
            max_exact_rows,
        })
    }

    /// How many micro-clusters stand for too many rows: more than clusters, so that there is something to merge.
    fn micro_cluster_count(&self) -> usize {
        MICRO_CLUSTERS.max(2 * self.cluster_count).min(self.max_exact_rows)
    }
}

fn fit(
    rows: &dyn Rows,
    features: &[usize],
    options: &Options,
    context: &FitContext<'_>,
) -> Result<(HierarchicalModel, TrainingInfo)> {
    let settings = Settings::read(options)?;
    let row_count = rows.row_count();
    if row_count == 0 {
        return Err(Error::data(format!(
            "{NAME}: the query gives no rows; there is nothing to learn from"
        )));
    }
    context.observer.started("hierarchical clustering", row_count, 1);
    let begun = Instant::now();
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
        center: true,
        max_categories: MAX_CATEGORIES,
    };
    let (encoder, notices) = Encoder::learn(rows, features, &encoding, context)?;
    notices.into_iter().for_each(&mut notice);
    let block = encoder.encode_rows::<f32>(rows, features, context)?;
    let (block, distinct_count) = kmeans::order_by_content(block, context)?;

    let (block, leaves) = if distinct_count <= settings.max_exact_rows {
        let taken = Leaves::bytes(distinct_count, &block);
        context.memory.take(taken, "the distinct rows")?;
        let leaves = Leaves::distinct(&block);
        (block, leaves)
    } else {
        let shape = (settings.micro_cluster_count(), MICRO_PASSES);
        context
            .memory
            .take(Leaves::bytes(shape.0, &block), "the micro-clusters")?;
        let (block, run) = kmeans::cluster(block, distinct_count, shape, context)?;
        notice(format!(
            "the {} distinct rows are more than max_exact_rows, {}: they were summed up in {} micro-clusters, and the tree is theirs",
            with_commas(distinct_count),
            with_commas(settings.max_exact_rows),
            with_commas(run.centroids.count())
        ));
        (block, Leaves::of_run(run))
    };
    let merges = tree(&leaves, &settings, context)?;
    let labels = linkage::cut(&merges, leaves.count(), settings.cluster_count);
    let found = labels.iter().max().map_or(0, |last| *last as usize + 1);
    if found < settings.cluster_count {
        notice(format!(
            "the rows have only {found} distinct combinations of features, so there are {found} clusters instead of {}",
            settings.cluster_count
        ));
    }
    let run = clusters(&block, &leaves, &labels, found, context)?;
    let loss = run.inertia / row_count as f64;
    let model = HierarchicalModel::new(KMeansModel::new(encoder, run, row_count), leaves, labels, merges);
    let pass = Pass {
        loss: Some(loss),
        duration_ms: begun.elapsed().as_secs_f64() * 1e3,
        clusters: model.clusters(),
        ..Pass::default()
    };
    context.observer.pass(&pass);
    info.passes.push(pass);
    Ok((model, info))
}

/// The merges of the leaves.
fn tree(leaves: &Leaves, settings: &Settings, context: &FitContext<'_>) -> Result<Vec<Merge>> {
    let (count, width, linkage) = (leaves.count(), leaves.points.width(), settings.linkage);
    let bytes = linkage::bytes(count, width, linkage);
    context
        .memory
        .take(bytes, "the tree")
        .map_err(|e| too_large(e, count, bytes, settings))?;
    // The lists of coordinates that are stored count in 31 bits.
    if count.saturating_mul(width) > i32::MAX as usize {
        return Err(Error::request(format!(
            "{NAME}: {} leaves of {} numbers are more than a model can keep; write a max_exact_rows of less, or leave features out",
            with_commas(count),
            with_commas(width)
        )));
    }
    let values = leaves.values_f32();
    let points = Points {
        values: &values,
        dimension: width,
        weights: Some(&leaves.weights),
    };
    let cancelled = || context.compute.is_cancelled();
    linkage::linkage_f32(&points, linkage, context.compute.pool, &cancelled).ok_or_else(Error::cancelled)
}

/// What to do where the tree does not fit into memory.
fn too_large(error: Error, count: usize, bytes: usize, settings: &Settings) -> Error {
    if error.kind() != ErrorKind::Memory {
        return error;
    }
    let keeps_pairs = matches!(settings.linkage, Linkage::Average | Linkage::Complete);
    let (what, instead) = if keeps_pairs {
        (
            "average and complete linkage keep the distance of every pair",
            "write linkage => 'ward', which keeps none, or",
        )
    } else {
        ("the coordinates are kept in f64", "write")
    };
    Error::memory(format!(
        "{NAME}: the tree of {} leaves needs {:.1} MB, more than the memory limit leaves, for {what}; {instead} a max_exact_rows below {} \
         (above it rows are summed up in micro-clusters), or raise the limit",
        with_commas(count),
        bytes as f64 / 1e6,
        with_commas(count)
    ))
    .with_source(error)
}

/// The clusters of a cut: centroids, rows and squares.
fn clusters(
    block: &Block<f32>,
    leaves: &Leaves,
    labels: &[u32],
    count: usize,
    context: &FitContext<'_>,
) -> Result<Run> {
    context.check_cancelled()?;
    let (width, pool) = (block.width(), context.compute.pool);
    let sums = partial_count(block.row_count, count, width) * size_of::<f64>();
    context
        .memory
        .take(sums + block.row_count * size_of::<u32>(), "the clusters")?;
    let of_rows: Vec<u32> = leaves.of_rows.iter().map(|leaf| labels[*leaf as usize]).collect();
    let sums = sums_f32(block, Metric::Euclidean, count, Some(&of_rows), pool);
    let means = sums.means(&vec![0.0; count * width]);
    let centroids = Centroids::new(Metric::Euclidean, count, block.number_count, &block.levels, means);
    let squares = inertia_f32(block, &centroids, &of_rows, pool);
    Ok(Run {
        centroids,
        rows: sums.rows,
        inertia: squares.iter().sum(),
        squares,
        labels: of_rows,
    })
}
