//! The shell at a terminal.

use std::borrow::Cow;
use std::time::Duration;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, Helper};
use tokio::runtime::Runtime;

use super::completion::{Catalogue, Table, Verb, complete};
use super::failure::Script;
use super::highlight::{dim, highlight};
use super::lexer::{is_complete, statements};
use super::run::{Shell, Stop};
use super::session::{colours, history_file, say};
use crate::sql::help::{Form, topics};

const PROMPT: &str = "dfml> ";
const COLOURED_PROMPT: &str = "\x1b[1;32mdfml>\x1b[0m ";
const HISTORY_SIZE: usize = 10_000;

/// How long a store may take to list its models for completion.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the line editor asks while one types.
struct Typing {
    catalogue: Catalogue,
    colours: bool,
    history: HistoryHinter,
}

impl Completer for Typing {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(&self.catalogue, line, pos))
    }
}

impl Hinter for Typing {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, context: &Context<'_>) -> Option<String> {
        // Without colours a hint would look like what was typed.
        if !self.colours || line.contains('\n') {
            return None;
        }
        self.history.hint(line, pos, context)
    }
}

impl Highlighter for Typing {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.colours {
            Cow::Owned(highlight(line))
        } else {
            Cow::Borrowed(line)
        }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(dim(hint))
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.colours && kind != CmdKind::MoveCursor
    }
}

impl Validator for Typing {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        Ok(if leaves(text) || is_complete(text) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Helper for Typing {}

fn leaves(text: &str) -> bool {
    ["exit", "quit"].contains(&text.trim().trim_end_matches(';').to_lowercase().as_str())
}

/// Reads and runs statements until the user leaves; the exit status.
pub(super) fn run(runtime: &Runtime, shell: &mut Shell) -> u8 {
    let mut editor = match editor() {
        Ok(editor) => editor,
        Err(e) => {
            say(format_args!("error: the terminal cannot be read ({e})"));
            return 1;
        }
    };
    let history = history_file();
    if let Some(file) = &history {
        if let Some(folder) = file.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    let mut known = runtime.block_on(catalogue(shell, None));
    let mut told = false;
    loop {
        if let Some(helper) = editor.helper_mut() {
            helper.catalogue = known.clone();
        }
        let typed = match editor.readline(&(PROMPT, COLOURED_PROMPT)) {
            Ok(typed) => typed,
            Err(ReadlineError::Eof) => return 0,
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => continue,
            Err(e) => {
                say(format_args!("error: the terminal cannot be read ({e})"));
                return 1;
            }
        };
        if typed.trim().is_empty() {
            continue;
        }
        if let Err(e) = editor.add_history_entry(typed.trim()).and_then(|_| match &history {
            Some(file) => editor.append_history(file),
            None => Ok(()),
        }) && !told
        {
            told = true;
            say(format_args!("warning: the history cannot be kept ({e})"));
        }
        if leaves(&typed) {
            return 0;
        }
        shell.limits.width = editor.dimensions().map(|(columns, _)| usize::from(columns));
        let script = Script {
            name: None,
            text: &typed,
        };
        for statement in statements(&typed) {
            match runtime.block_on(shell.statement(&statement, script)) {
                Ok(()) => {}
                Err(Stop::Failed | Stop::Interrupted) => break,
                Err(stop) => return stop.status(),
            }
        }
        known = runtime.block_on(catalogue(shell, Some((&known, &typed))));
    }
}

fn editor() -> rustyline::Result<Editor<Typing, FileHistory>> {
    use std::io::IsTerminal;
    let colours = colours(std::io::stdout().is_terminal());
    let config = Config::builder()
        .max_history_size(HISTORY_SIZE)?
        .history_ignore_dups(true)?
        .completion_type(CompletionType::List)
        .completion_show_all_if_ambiguous(true)
        .color_mode(if colours {
            ColorMode::Enabled
        } else {
            ColorMode::Disabled
        })
        .auto_add_history(false)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Typing {
        catalogue: Catalogue::default(),
        colours,
        history: HistoryHinter::new(),
    }));
    Ok(editor)
}

/// What can be completed now. `before` is what was known and the text that ran since: models are listed again only if it
/// may have changed them, as their store may be far away.
async fn catalogue(shell: &Shell, before: Option<(&Catalogue, &str)>) -> Catalogue {
    let mut tables = vec![];
    for name in shell.tables() {
        let columns = match shell.schema_of(&name).await {
            Ok(schema) => schema.fields().iter().map(|f| f.name().clone()).collect(),
            Err(_) => vec![],
        };
        tables.push(Table { name, columns });
    }
    let mut catalogue = Catalogue {
        tables,
        ..Catalogue::default()
    };
    {
        let state = shell.ctx.state();
        let names = state
            .scalar_functions()
            .keys()
            .chain(state.aggregate_functions().keys());
        catalogue.functions = names
            .chain(state.window_functions().keys())
            .map(|n| n.to_lowercase())
            .collect();
        catalogue
            .functions
            .extend(state.table_functions().keys().map(|n| n.to_lowercase()));
        catalogue.functions.sort();
        catalogue.functions.dedup();
    }
    for topic in topics() {
        if topic.form == Form::Setting {
            catalogue.settings.push(topic.name);
            continue;
        }
        let options: Vec<String> = topic.options.iter().map(|o| o.name.to_string()).collect();
        match catalogue.verbs.iter_mut().find(|v| v.name == topic.name) {
            Some(verb) => verb.options.extend(options),
            None => catalogue.verbs.push(Verb {
                name: topic.name,
                options,
            }),
        }
    }
    for verb in &mut catalogue.verbs {
        let mut seen: Vec<String> = vec![];
        verb.options.retain(|o| {
            !seen.contains(o) && {
                seen.push(o.clone());
                true
            }
        });
        catalogue.functions.retain(|f| !f.eq_ignore_ascii_case(&verb.name));
    }
    if let Ok(setting_names) = names(shell, "SELECT name FROM information_schema.df_settings").await {
        catalogue.settings.extend(setting_names);
        catalogue.settings.sort();
        catalogue.settings.dedup();
    }
    let may_have_changed = |text: &str| {
        let text = text.to_lowercase();
        ["model", "ml.", "store", "drop"].iter().any(|word| text.contains(word))
    };
    catalogue.models = match before {
        Some((known, text)) if !may_have_changed(text) => known.models.clone(),
        _ => {
            let listed = names(shell, "SELECT DISTINCT name FROM ml.models ORDER BY name");
            match tokio::time::timeout(PATIENCE, listed).await {
                Ok(Ok(models)) => models,
                _ => vec![],
            }
        }
    };
    catalogue
}

/// The first column of a query, as text.
async fn names(shell: &Shell, query: &str) -> datafusion::error::Result<Vec<String>> {
    let mut names = vec![];
    for batch in shell.ctx.sql(query).await?.collect().await? {
        let column = cast(batch.column(0), &DataType::Utf8)?;
        let column = column.as_string::<i32>();
        names.extend(
            (0..column.len())
                .filter(|i| column.is_valid(*i))
                .map(|i| column.value(i).to_string()),
        );
    }
    Ok(names)
}
