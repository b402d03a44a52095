//! The rows of a query, read once and kept so that they can be read again: in memory, and on disk beyond the limit.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::runtime::JoinSet;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::{SpillFile, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, SendableRecordBatchStream};
use futures::StreamExt;

use crate::error::Error;
use crate::models::Rows;

/// Batches of all partitions, in the order of the partitions.
pub(crate) struct CollectedRows {
    schema: SchemaRef,
    batches: Vec<Stored>,
    /// Where each partition's batches begin in `batches`, and where the last ends.
    partitions: Vec<usize>,
    /// The row at which each batch begins.
    first_rows: Vec<usize>,
    pub(crate) spilled_bytes: usize,
    _memory: Vec<MemoryReservation>,
}

enum Stored {
    Memory(RecordBatch),
    Disk {
        file: Arc<dyn SpillFile>,
        offset: u64,
        bytes: u64,
        rows: usize,
    },
}

impl CollectedRows {
    /// Runs every partition of `input` once and keeps its rows; columns are cast to `schema`'s types where planning and
    /// execution see different ones.
    pub(crate) async fn read(
        input: &Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let partition_count = input.output_partitioning().partition_count();
        // Half of what there is stays free for the blocks and the fit, which cannot spill.
        let budget = match context.memory_pool().memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / 2 / partition_count.max(1),
            _ => usize::MAX,
        };
        for partition in 0..partition_count {
            let stream = input.execute(partition, Arc::clone(context))?;
            let context = Arc::clone(context);
            let schema = Arc::clone(&schema);
            let reader = PartitionReader::new(schema, context, partition, budget);
            tasks.spawn(async move { (partition, reader.read(stream).await) });
        }
        let mut read = vec![];
        while let Some(done) = tasks.join_next().await {
            let (partition, result) = done.map_err(|e| DataFusionError::Execution(e.to_string()))?;
            read.push((partition, result?));
        }
        read.sort_by_key(|(partition, _)| *partition);

        let mut out = Self {
            schema,
            batches: vec![],
            partitions: vec![0],
            first_rows: vec![],
            spilled_bytes: 0,
            _memory: vec![],
        };
        let mut row = 0;
        for (_, reader) in read {
            for batch in reader.batches {
                out.first_rows.push(row);
                row += batch.rows();
                out.batches.push(batch);
            }
            out.partitions.push(out.batches.len());
            out.spilled_bytes += reader.spilled_bytes;
            out._memory.push(reader.memory);
        }
        Ok(out)
    }

    /// The indices of the batches that partition `partition` gave.
    pub(crate) fn partition(&self, partition: usize) -> std::ops::Range<usize> {
        self.partitions[partition]..self.partitions[partition + 1]
    }

    /// The row, counted over all batches, at which batch `index` begins.
    pub(crate) fn first_row(&self, index: usize) -> usize {
        self.first_rows[index]
    }
}

impl Stored {
    fn rows(&self) -> usize {
        match self {
            Stored::Memory(batch) => batch.num_rows(),
            Stored::Disk { rows, .. } => *rows,
        }
    }
}

impl Rows for CollectedRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn batch_count(&self) -> usize {
        self.batches.len()
    }

    fn batch_rows(&self, index: usize) -> usize {
        self.batches[index].rows()
    }

    fn batch(&self, index: usize) -> crate::error::Result<RecordBatch> {
        match &self.batches[index] {
            Stored::Memory(batch) => Ok(batch.clone()),
            Stored::Disk {
                file, offset, bytes, ..
            } => read_spilled(file.as_ref(), *offset, *bytes).map_err(|e| {
                Error::memory("spilled rows cannot be read back from the temporary folder").with_source(e)
            }),
        }
    }
}

fn read_spilled(file: &dyn SpillFile, offset: u64, bytes: u64) -> Result<RecordBatch> {
    let path = file
        .path()
        .ok_or_else(|| DataFusionError::Execution("the spill file has no path".into()))?;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = StreamReader::try_new(BufReader::new(file.take(bytes)), None)?;
    match reader.next() {
        Some(batch) => Ok(batch?),
        None => Err(DataFusionError::Execution("the spill file ends early".into())),
    }
}

/// Reads one partition.
struct PartitionReader {
    schema: SchemaRef,
    context: Arc<TaskContext>,
    memory: MemoryReservation,
    /// At most so many bytes stay in memory.
    budget: usize,
    batches: Vec<Stored>,
    spill: Option<Spill>,
    spilled_bytes: usize,
}

struct Spill {
    file: Arc<dyn SpillFile>,
    writer: Box<dyn datafusion::execution::SpillWriter>,
    offset: u64,
}

impl PartitionReader {
    fn new(schema: SchemaRef, context: Arc<TaskContext>, partition: usize, budget: usize) -> Self {
        let memory = MemoryConsumer::new(format!("datafusion-ml rows[{partition}]"))
            .with_can_spill(true)
            .register(context.memory_pool());
        Self {
            schema,
            context,
            memory,
            budget,
            batches: vec![],
            spill: None,
            spilled_bytes: 0,
        }
    }

    async fn read(mut self, mut stream: SendableRecordBatchStream) -> Result<Self> {
        while let Some(batch) = stream.next().await {
            let batch = self.conform(batch?)?;
            if batch.num_rows() == 0 {
                continue;
            }
            let bytes = batch.get_array_memory_size();
            let fits = self.spill.is_none() && self.memory.size().saturating_add(bytes) <= self.budget;
            if fits && self.memory.try_grow(bytes).is_ok() {
                self.batches.push(Stored::Memory(batch));
            } else {
                // Once over the limit, everything further of this partition goes to disk.
                let stored = self.write(&batch)?;
                self.batches.push(stored);
            }
        }
        if let Some(spill) = &mut self.spill {
            spill.writer.finish()?;
        }
        Ok(self)
    }

    fn conform(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    Ok(Arc::clone(column))
                } else {
                    Ok(cast(column, field.data_type())?)
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<Stored> {
        if self.spill.is_none() {
            let file = self
                .context
                .runtime_env()
                .disk_manager
                .create_tmp_file("keeping the rows of a fit")?;
            let writer = file.open_writer()?;
            self.spill = Some(Spill {
                file,
                writer,
                offset: 0,
            });
        }
        // Each batch is a stream of its own within the file, so that it can be read alone.
        let mut bytes = vec![];
        let mut ipc = StreamWriter::try_new(&mut bytes, &self.schema)?;
        ipc.write(batch)?;
        ipc.finish()?;
        drop(ipc);
        let Some(spill) = &mut self.spill else {
            return Err(DataFusionError::Internal("a spill file was just made".into()));
        };
        spill.writer.write_all(&bytes)?;
        let stored = Stored::Disk {
            file: Arc::clone(&spill.file),
            offset: spill.offset,
            bytes: bytes.len() as u64,
            rows: batch.num_rows(),
        };
        spill.offset += bytes.len() as u64;
        self.spilled_bytes += bytes.len();
        Ok(stored)
    }
}
