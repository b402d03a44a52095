//! A trained hierarchical clustering: the clusters of the cut, the leaves and their merges.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, Schema};

use super::Hierarchical;
use super::leaves::Leaves;
use crate::error::Result;
use crate::features::encode::table_column;
use crate::kernels::assign::{Centroids, Metric, nearest_f32};
use crate::kernels::block::Block;
use crate::kernels::linkage::Merge;
use crate::models::coordinates::{coordinate_lists, coordinate_type, read_coordinates};
use crate::models::kmeans::KMeansModel;
use crate::models::{Artefact, FeatureColumn, Model, ModelType, Parts, Rows};
use crate::options::Options;

/// A trained hierarchical clustering.
#[derive(Debug)]
pub(super) struct HierarchicalModel {
    /// The clusters by their centroids.
    clusters: KMeansModel,
    leaves: Centroids,
    /// How many rows each leaf stands for.
    weights: Vec<u64>,
    /// The position of each leaf's cluster among the centroids.
    labels: Vec<u32>,
    /// Leaves are numbered from 0, and merge `i` makes the cluster `leaves + i`.
    merges: Vec<Merge>,
}

impl HierarchicalModel {
    pub(super) fn new(clusters: KMeansModel, leaves: Leaves, labels: Vec<u32>, merges: Vec<Merge>) -> Self {
        Self {
            clusters,
            leaves: leaves.points,
            weights: leaves.weights,
            labels,
            merges,
        }
    }

    /// (centroid_id, root-mean-square radius, rows) of each cluster.
    pub(super) fn clusters(&self) -> Vec<(i64, f64, i64)> {
        self.clusters.clusters()
    }

    /// The cluster of each row: that of the nearest leaf.
    fn labels(&self, block: &Block<f32>) -> Vec<u32> {
        let mut nearest = nearest_f32(block, &self.leaves);
        nearest.iter_mut().for_each(|leaf| *leaf = self.labels[*leaf as usize]);
        nearest
    }

    pub(super) fn from_artefact(artefact: &Artefact) -> Result<Self> {
        let clusters = KMeansModel::from_artefact(artefact)?;
        let encoder = &clusters.encoder;
        let (number_count, levels) = (encoder.numbers().len(), encoder.levels());
        let width = clusters.centroids.width();

        let table = artefact.table("leaves")?;
        let ids = whole_numbers(artefact, table, "centroid_id")?;
        let weights = whole_numbers(artefact, table, "row_count")?;
        let lists = table_column(artefact, table, "coordinates", &coordinate_type())?;
        if ids.is_empty() || lists.null_count() > 0 || weights.contains(&0) {
            return Err(artefact.corrupt("its tree has leaves without rows or coordinates"));
        }
        let mut values = Vec::with_capacity(ids.len() * width);
        for row in 0..ids.len() {
            let what = format!("leaf {}", row + 1);
            read_coordinates(artefact, lists.as_list::<i32>(), row, width, &what, &mut values)?;
        }
        let position = |id: &u64| {
            let at = clusters.ids.iter().position(|i| *i as u64 == *id);
            at.map(|at| at as u32)
                .ok_or_else(|| artefact.corrupt(format!("it has no cluster {id}, which a leaf is in")))
        };
        Ok(Self {
            leaves: Centroids::new(Metric::Euclidean, ids.len(), number_count, &levels, values),
            labels: ids.iter().map(position).collect::<Result<_>>()?,
            merges: read_merges(artefact, ids.len())?,
            weights,
            clusters,
        })
    }

    /// The cluster that each merge is in; none for a merge of clusters.
    fn clusters_of_merges(&self) -> Vec<Option<i64>> {
        let leaves = self.labels.len();
        let mut nodes: Vec<Option<i64>> = self
            .labels
            .iter()
            .map(|label| Some(self.clusters.ids[*label as usize]))
            .collect();
        for merge in &self.merges {
            let (left, right) = (nodes[merge.left as usize], nodes[merge.right as usize]);
            nodes.push(if left == right { left } else { None });
        }
        nodes.split_off(leaves)
    }

    fn merge_columns(&self) -> Vec<(&'static str, ArrayRef)> {
        let whole = |of: &dyn Fn(&Merge) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(self.merges.iter().map(of)))
        };
        let heights = self.merges.iter().map(|m| m.height);
        vec![
            ("left_id", whole(&|m| i64::from(m.left) + 1)),
            ("right_id", whole(&|m| i64::from(m.right) + 1)),
            ("height", Arc::new(Float64Array::from_iter_values(heights))),
            ("row_count", whole(&|m| m.size as i64)),
        ]
    }

    /// The table of `ML.MERGES`.
    fn merge_table(&self) -> Result<RecordBatch> {
        let numbers = Int64Array::from_iter_values(1..=self.merges.len() as i64);
        let mut columns: Vec<(&str, ArrayRef)> = vec![("merge", Arc::new(numbers))];
        columns.extend(self.merge_columns());
        columns.push(("centroid_id", Arc::new(Int64Array::from(self.clusters_of_merges()))));
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    }
}

/// A column of whole numbers from 0, none NULL.
fn whole_numbers(artefact: &Artefact, table: &RecordBatch, name: &str) -> Result<Vec<u64>> {
    let column = table_column(artefact, table, name, &DataType::Int64)?;
    let numbers = column.as_primitive::<Int64Type>();
    let is_whole = numbers.null_count() == 0 && numbers.values().iter().all(|n| *n >= 0);
    if !is_whole {
        return Err(artefact.corrupt(format!("its column '{name}' has other than whole numbers")));
    }
    Ok(numbers.values().iter().map(|n| *n as u64).collect())
}

/// The merges of so many leaves, each of two clusters that are there.
fn read_merges(artefact: &Artefact, leaves: usize) -> Result<Vec<Merge>> {
    let table = artefact.table("merges")?;
    let (left, right) = (
        whole_numbers(artefact, table, "left_id")?,
        whole_numbers(artefact, table, "right_id")?,
    );
    let sizes = whole_numbers(artefact, table, "row_count")?;
    let heights = table_column(artefact, table, "height", &DataType::Float64)?;
    let heights = heights.as_primitive::<Float64Type>();
    let broken = || artefact.corrupt(format!("its merges are no tree of its {leaves} leaves"));
    if left.len() + 1 != leaves || heights.null_count() > 0 {
        return Err(broken());
    }
    let mut is_merged = vec![false; leaves + left.len()];
    let mut merges = Vec::with_capacity(left.len());
    for (i, size) in sizes.iter().enumerate() {
        for id in [left[i], right[i]] {
            let node = (id as usize).wrapping_sub(1);
            match is_merged[..leaves + i].get_mut(node) {
                Some(merged) if !*merged => *merged = true,
                _ => return Err(broken()),
            }
        }
        merges.push(Merge {
            left: (left[i] - 1) as u32,
            right: (right[i] - 1) as u32,
            height: heights.value(i),
            size: *size,
        });
    }
    Ok(merges)
}

impl Model for HierarchicalModel {
    fn model_type(&self) -> &'static str {
        Hierarchical.name()
    }

    fn feature_columns(&self) -> &[FeatureColumn] {
        self.clusters.feature_columns()
    }

    fn verb_fields(&self) -> Vec<FieldRef> {
        self.predict_fields()
    }

    fn verb_columns(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        self.predict_columns(columns, &Options::default())
    }

    fn score(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let block = self.clusters.encoder.encode::<f32>(columns)?;
        Ok(self.clusters.segments(&self.labels(&block)))
    }

    fn predict_fields(&self) -> Vec<FieldRef> {
        self.clusters.predict_fields()
    }

    fn predict_columns(&self, columns: &[ArrayRef], _options: &Options) -> Result<Vec<ArrayRef>> {
        let block = self.clusters.encoder.encode::<f32>(columns)?;
        let mut answer = self.clusters.predict_block(&block)?;
        // By the nearest leaf instead of the nearest centroid.
        if let Some(ids) = answer.first_mut() {
            *ids = self.clusters.segments(&self.labels(&block));
        }
        Ok(answer)
    }

    fn assess_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        self.clusters.assess_fields(word)
    }

    fn assess(&self, _word: &str, rows: &dyn Rows, _options: &Options, stop: &dyn Fn() -> bool) -> Result<RecordBatch> {
        self.clusters.judge(rows, stop, &|block| self.labels(block))
    }

    fn own_metrics(&self) -> Option<Vec<Option<f64>>> {
        self.clusters.own_metrics()
    }

    fn describe(&self, word: &str, options: &Options) -> Result<Option<RecordBatch>> {
        match word {
            "MERGES" => self.merge_table().map(Some),
            _ => self.clusters.describe(word, options),
        }
    }

    fn parts(&self) -> Result<Parts> {
        let mut parts = self.clusters.parts()?;
        let schema = Schema::new(vec![
            Field::new("centroid_id", DataType::Int64, false),
            Field::new("row_count", DataType::Int64, false),
            Field::new("coordinates", coordinate_type(), false),
        ]);
        let weights = self.weights.iter().map(|w| *w as i64);
        let leaves = vec![
            self.clusters.segments(&self.labels),
            Arc::new(Int64Array::from_iter_values(weights)) as ArrayRef,
            Arc::new(coordinate_lists(self.leaves.values().to_vec(), self.leaves.width())?),
        ];
        let leaves = RecordBatch::try_new(Arc::new(schema), leaves)?;
        let merges = self
            .merge_columns()
            .into_iter()
            .map(|(name, array)| (name, array, false));
        let merges = RecordBatch::try_from_iter_with_nullable(merges)?;
        parts.tables.push(("leaves".into(), leaves));
        parts.tables.push(("merges".into(), merges));
        Ok(parts)
    }
}
