//! The program `dfml`: SQL over a lake at a terminal or in scripts, and the demo. It has no SQL of its own; what it runs is
//! what [`crate::register_all`] gives any session.
//!
//! | file | what it is for |
//! |---|---|
//! | `arguments` | the command line |
//! | `session`, `lake`, `stores` | the session: settings, tables of files, object stores |
//! | `lexer` | statements out of scripts; words for colours and completion |
//! | `run`, `output`, `failure`, `progress` | running a statement, and what is printed of it |
//! | `commands`, `repl`, `completion`, `highlight` | at the terminal |
//! | `demo`, `tour` | the demo lake, and the walk through it |

mod arguments;
mod commands;
mod completion;
pub mod demo;
mod failure;
mod highlight;
mod lake;
mod lexer;
mod output;
mod progress;
mod repl;
mod run;
mod session;
mod stores;
pub mod tour;

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use arguments::{Arguments, Command, Format, Input, SessionArguments};
use failure::{Script, sentence};
use output::Limits;
use progress::Progress;
use run::{Output, Shell, Stop};
use session::say;

/// Stack of the threads that plan: deep expressions are planned by recursion, and debug builds take much more of it.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// How long what still runs may take to end once the shell has.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs the program with this process's arguments: 0 if all went well, 1 after an error, 2 for a wrong command line, 130
/// after Ctrl-C.
pub fn main() -> ExitCode {
    run_with(std::env::args_os())
}

/// As [`main`], with these arguments; the first is the program's name.
pub fn run_with(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let (arguments, inputs) = match Arguments::from_words(arguments) {
        Ok(found) => found,
        Err(e) => {
            // Help and version are no errors. clap knows, and prints to where each belongs.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let thread = std::thread::Builder::new().name("dfml".into()).stack_size(STACK_BYTES);
    match thread
        .spawn(move || start(&arguments, inputs))
        .map(std::thread::JoinHandle::join)
    {
        Ok(Ok(status)) => ExitCode::from(status),
        // A panic has told its story already.
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(e) => {
            say(format_args!("error: no thread can be started ({e})"));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments, inputs: Vec<Input>) -> u8 {
    let session = match &arguments.command {
        Some(Command::Demo(demo)) => &demo.session,
        None => &arguments.session,
    };
    let runtime = match runtime(session) {
        Ok(runtime) => runtime,
        Err(e) => {
            say(format_args!(
                "error: no threads can be started ({e}); give fewer with --threads"
            ));
            return 1;
        }
    };
    let status = match &arguments.command {
        Some(Command::Demo(demo)) => tour::demo(&runtime, demo),
        None => shell(&runtime, arguments, inputs),
    };
    runtime.shutdown_timeout(LAST_WORDS);
    status
}

fn runtime(arguments: &SessionArguments) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = arguments.threads {
        builder.worker_threads(usize::from(threads));
    }
    builder
        .enable_all()
        .thread_name("dfml-worker")
        .thread_stack_size(STACK_BYTES)
        .build()
}

/// A shell with its session; its error was reported.
fn open(runtime: &Runtime, arguments: &SessionArguments, format: Format, max_rows: usize) -> Result<Shell, Stop> {
    let progress = Arc::new(Progress::new(arguments.quiet));
    match runtime.block_on(session::context(arguments, Arc::clone(&progress) as _)) {
        Ok(ctx) => Ok(Shell {
            ctx,
            progress,
            output: Output::new(),
            format,
            limits: Limits { max_rows, width: None },
            timing: !arguments.quiet,
            variables: Arc::default(),
        }),
        Err(e) => {
            say(format_args!("error: {}", sentence(&e)));
            Err(Stop::Failed)
        }
    }
}

/// The terminal's width, where standard output is one.
fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let (columns, _) = rustyline::DefaultEditor::new().ok()?.dimensions()?;
    Some(usize::from(columns)).filter(|w| *w > 0)
}

/// The tables of a lake, and what was wrong with it on standard error.
fn load(runtime: &Runtime, shell: &Shell, location: &str) -> Result<usize, Stop> {
    match runtime.block_on(lake::register(&shell.ctx, location)) {
        Ok(lake) => {
            for warning in &lake.warnings {
                say(format_args!("warning: {warning}"));
            }
            Ok(lake.tables.len())
        }
        Err(e) => {
            say(format_args!("error: {}", sentence(&e)));
            Err(Stop::Failed)
        }
    }
}

fn shell(runtime: &Runtime, arguments: &Arguments, inputs: Vec<Input>) -> u8 {
    let result = open(runtime, &arguments.session, arguments.format, arguments.max_rows).and_then(|mut shell| {
        let table_count = match &arguments.lake {
            Some(location) => Some(load(runtime, &shell, location)?),
            None => None,
        };
        let interactive = inputs.is_empty() && std::io::stdin().is_terminal();
        if interactive {
            if !arguments.session.quiet {
                greet(arguments.lake.as_deref(), table_count);
            }
            return Ok(repl::run(runtime, &mut shell));
        }
        shell.limits.width = terminal_width();
        let inputs = if inputs.is_empty() { vec![Input::Stdin] } else { inputs };
        for input in &inputs {
            run_input(runtime, &mut shell, input)?;
        }
        Ok(0)
    });
    result.unwrap_or_else(Stop::status)
}

fn greet(lake: Option<&str>, table_count: Option<usize>) {
    let tables = match (lake, table_count) {
        (Some(lake), Some(1)) => format!("1 table in {lake}"),
        (Some(lake), Some(n)) => format!("{n} tables in {lake}"),
        _ => "no lake is open (dfml DIR opens one)".into(),
    };
    say(format_args!(
        "dfml {}: {tables}. Statements end with a semicolon; \\? helps, \\q leaves.",
        env!("CARGO_PKG_VERSION")
    ));
}

fn run_input(runtime: &Runtime, shell: &mut Shell, input: &Input) -> Result<(), Stop> {
    let (name, text) = match input {
        Input::Text(text) => (None, text.clone()),
        Input::File(path) => (Some(path.display().to_string()), read_file(path)?),
        Input::Stdin => (None, read_stdin()?),
    };
    let script = Script {
        name: name.as_deref(),
        text: &text,
    };
    runtime.block_on(shell.script(script))
}

fn read_file(path: &Path) -> Result<String, Stop> {
    std::fs::read(path)
        .map_err(|e| e.to_string())
        .and_then(text_of)
        .map_err(|reason| {
            say(format_args!(
                "error: the file '{}' cannot be read ({reason})",
                path.display()
            ));
            Stop::Failed
        })
}

fn read_stdin() -> Result<String, Stop> {
    let mut bytes = vec![];
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())
        .and_then(|_| text_of(bytes))
        .map_err(|reason| {
            say(format_args!("error: standard input cannot be read ({reason})"));
            Stop::Failed
        })
}

/// UTF-8, without the mark that some editors put before it.
fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_string())?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}
