//! Runs statements: plans and executes each on a task of its own, prints its batches as they come, and stops it on Ctrl-C.

use std::io::{BufWriter, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::arguments::Format;
use super::failure::{Script, report};
use super::lexer::{Statement, statements};
use super::output::{Limits, Sink, sink, thousands};
use super::progress::{Progress, time};
use super::session::say;
use crate::sql::{Variables, plan_sql, pointed, read, run as run_statement};

/// Batches that may wait to be printed.
const BATCHES_AHEAD: usize = 4;

/// How long a cancelled statement may take to let go before it is left to itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why no further statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// An error, which was reported.
    Failed,
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads standard output any more.
    Unread,
    /// `\q`.
    Quit,
}

impl Stop {
    /// The exit status that says so.
    pub(super) fn status(self) -> u8 {
        match self {
            Stop::Failed => 1,
            Stop::Interrupted => 130,
            Stop::Unread | Stop::Quit => 0,
        }
    }
}

/// Standard output, buffered; it remembers that nobody reads it any more.
#[derive(Debug, Clone)]
pub(super) struct Output {
    buffer: Arc<Mutex<BufWriter<Stdout>>>,
    unread: Arc<AtomicBool>,
}

impl Output {
    /// This process's standard output.
    pub(super) fn new() -> Self {
        let buffer = BufWriter::with_capacity(64 * 1024, std::io::stdout());
        Self {
            buffer: Arc::new(Mutex::new(buffer)),
            unread: Arc::default(),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut BufWriter<Stdout>) -> std::io::Result<T>) -> std::io::Result<T> {
        let result = f(&mut self.buffer.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(e) = &result
            && e.kind() == std::io::ErrorKind::BrokenPipe
        {
            self.unread.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Whether nobody reads it any more.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.with(|out| out.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.with(Write::flush)
    }
}

/// The shell: a session and how its results are shown.
pub(super) struct Shell {
    pub(super) ctx: SessionContext,
    pub(super) progress: Arc<Progress>,
    pub(super) output: Output,
    pub(super) format: Format,
    pub(super) limits: Limits,
    /// Whether the time of each statement is told.
    pub(super) timing: bool,
    /// What DECLARE and SET of the statements so far gave.
    pub(super) variables: Arc<Mutex<Variables>>,
}

/// What a statement's task tells.
enum Event {
    /// A result begins.
    Rows(SchemaRef),
    Batch(RecordBatch),
    /// Rows were written to a table or a file.
    Written(u64),
}

/// What a statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    Rows(u64),
    Written(u64),
}

impl Shell {
    /// Runs every statement of a script, until one fails.
    pub(super) async fn script(&mut self, script: Script<'_>) -> std::result::Result<(), Stop> {
        for statement in statements(script.text) {
            self.statement(&statement, script).await?;
        }
        Ok(())
    }

    /// Runs one statement or command, prints its result and reports its error.
    pub(super) async fn statement(
        &mut self,
        statement: &Statement<'_>,
        script: Script<'_>,
    ) -> std::result::Result<(), Stop> {
        let begin = Instant::now();
        if statement.is_command() {
            return self.command(statement.text).await;
        }
        let result = self.execute(statement.text).await;
        self.progress.clear();
        // What was printed before an error stands before it.
        let _ = self.output.flush();
        match result {
            Ok(effect) => {
                if self.timing {
                    let seconds = time(begin.elapsed().as_secs_f64());
                    match effect {
                        Effect::Nothing => say(format_args!("done in {seconds}")),
                        Effect::Rows(n) => say(format_args!("{} in {seconds}", rows(n))),
                        Effect::Written(n) => say(format_args!("{} written in {seconds}", rows(n))),
                    }
                }
                Ok(())
            }
            Err(_) if self.output.is_unread() => Err(Stop::Unread),
            Err(Problem::Interrupted) => {
                say("cancelled");
                Err(Stop::Interrupted)
            }
            Err(Problem::Error(e)) => {
                say(report(&e, script, statement, &self.tables()));
                Err(Stop::Failed)
            }
        }
    }

    async fn execute(&self, sql: &str) -> std::result::Result<Effect, Problem> {
        let (events, mut heard) = mpsc::channel(BATCHES_AHEAD);
        let mut task = tokio::spawn(run(
            self.ctx.clone(),
            sql.to_string(),
            Arc::clone(&self.variables),
            events,
        ));
        let interrupt = async {
            if tokio::signal::ctrl_c().await.is_err() {
                // Without a handler Ctrl-C ends the process, as it would anyway.
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(interrupt);
        let mut printer: Option<Box<dyn Sink>> = None;
        let mut effect = Effect::Nothing;
        loop {
            let event = tokio::select! {
                biased;
                () = &mut interrupt => {
                    task.abort();
                    drop(heard);
                    // Lets the query drop what it holds, unless it is deep in a computation.
                    let _ = tokio::time::timeout(PATIENCE, &mut task).await;
                    return Err(Problem::Interrupted);
                }
                event = heard.recv() => event,
            };
            let printed = match event {
                None => break,
                Some(Event::Written(n)) => {
                    effect = Effect::Written(n);
                    Ok(())
                }
                Some(Event::Rows(schema)) => {
                    effect = Effect::Rows(0);
                    self.printer(&schema).map(|sink| printer = Some(sink))
                }
                Some(Event::Batch(batch)) => {
                    if let Effect::Rows(n) = &mut effect {
                        *n += batch.num_rows() as u64;
                    }
                    printer.as_mut().map_or(Ok(()), |p| p.write(&batch))
                }
            };
            if let Err(e) = printed {
                task.abort();
                return Err(Problem::Error(e));
            }
        }
        let outcome = match task.await {
            Ok(outcome) => outcome,
            Err(e) => Err(DataFusionError::ExecutionJoin(Box::new(e))),
        };
        outcome.map_err(Problem::Error)?;
        if let Some(mut printer) = printer {
            printer.finish().map_err(Problem::Error)?;
        }
        self.output.clone().flush().map_err(|e| Problem::Error(e.into()))?;
        Ok(effect)
    }

    fn printer(&self, schema: &SchemaRef) -> Result<Box<dyn Sink>> {
        sink(self.format, schema, self.limits, self.output.clone())
    }

    /// Prints rows that the shell itself made.
    pub(super) fn print(&self, batch: &RecordBatch) -> Result<()> {
        let mut printer = self.printer(&batch.schema())?;
        printer.write(batch)?;
        printer.finish()?;
        Ok(self.output.clone().flush()?)
    }

    /// Prints text as it is.
    pub(super) fn print_text(&self, text: &str) -> Result<()> {
        let mut out = self.output.clone();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}

enum Problem {
    Error(DataFusionError),
    Interrupted,
}

/// `1 row`, `1,234 rows`.
fn rows(n: u64) -> String {
    format!("{} {}", thousands(n), if n == 1 { "row" } else { "rows" })
}

/// Plans and executes one statement. Dropping it, or the receiver of its events, stops the query.
async fn run(
    ctx: SessionContext,
    sql: String,
    variables: Arc<Mutex<Variables>>,
    events: mpsc::Sender<Event>,
) -> Result<()> {
    let statements = {
        let mut variables = variables.lock().unwrap_or_else(PoisonError::into_inner);
        read(&ctx, &sql, &mut variables).map_err(|e| pointed(&sql, &e))?
    };
    for statement in statements {
        run_one(&ctx, statement, &sql, &events).await?;
    }
    Ok(())
}

async fn run_one(
    ctx: &SessionContext,
    statement: crate::sql::Statement,
    text: &str,
    events: &mpsc::Sender<Event>,
) -> Result<()> {
    let (frame, writes) = match statement {
        crate::sql::Statement::Plain(sql) => {
            let plan = plan_sql(ctx, &sql, text).await?;
            let writes = matches!(plan, LogicalPlan::Copy(_) | LogicalPlan::Dml(_));
            (ctx.execute_logical_plan(plan).await?, writes)
        }
        of_models => (run_statement(ctx, of_models, text).await?, false),
    };
    let mut batches = frame.execute_stream().await?;
    let schema = batches.schema();
    let has_rows = !writes && !schema.fields().is_empty();
    let mut written = 0;
    let mut begun = false;
    loop {
        let batch = batches.next().await.transpose()?;
        // Not before the first batch: a query that fails at once prints nothing. A closed channel means that the shell
        // has stopped listening.
        if has_rows && !begun {
            begun = true;
            if events.send(Event::Rows(Arc::clone(&schema))).await.is_err() {
                return Ok(());
            }
        }
        let Some(batch) = batch else { break };
        if has_rows {
            if batch.num_rows() > 0 && events.send(Event::Batch(batch)).await.is_err() {
                return Ok(());
            }
        } else if writes {
            let counts = batch.columns().first().and_then(|c| c.as_primitive_opt::<UInt64Type>());
            written += counts.map_or(0, |c| c.values().iter().sum::<u64>());
        }
    }
    if writes {
        let _ = events.send(Event::Written(written)).await;
    }
    Ok(())
}
