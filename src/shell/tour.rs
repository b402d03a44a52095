//! `dfml demo`: writes the demo lake, and walks through it query by query.

use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use super::arguments::{DemoArguments, Format};
use super::failure::Script;
use super::highlight::{bold, highlight};
use super::lexer::statements;
use super::run::{Shell, Stop};
use super::session::{colours, say};
use super::{demo, load, open, terminal_width};

/// The walk: statements, each after a comment that begins with a heading (`-- # Segments`) and goes on with what is to be
/// seen.
pub const TOUR: &str = include_str!("../../sql/tour.sql");

/// The folder within a demo lake that holds the models of the tour. A leading dot keeps it from being a table.
const MODELS: &str = ".models";

/// How many rows of a result the tour shows.
const ROWS: usize = 40;

/// Runs `dfml demo`; the exit status.
pub(super) fn demo(runtime: &Runtime, arguments: &DemoArguments) -> u8 {
    let quiet = arguments.session.quiet;
    let dir = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("dfml-demo-{}-{}", arguments.scale, arguments.seed)),
    };
    let there = holds_something(&dir);
    if there && !arguments.tour {
        say(format_args!(
            "error: '{}' is there already; name a new folder for the lake",
            dir.display()
        ));
        return 1;
    }
    if !there && let Err(e) = write(&dir, arguments, quiet) {
        say(format_args!(
            "error: the demo lake cannot be written to '{}': {e}",
            dir.display()
        ));
        return 1;
    }
    if arguments.tour {
        return walk(runtime, &dir, arguments).map_or_else(Stop::status, |()| 0);
    }
    if !quiet {
        say(format_args!("the lake is in {0}; open it with: dfml {0}", shown(&dir)));
    }
    0
}

fn holds_something(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        // A file of that name counts as something too.
        Err(_) => dir.exists(),
    }
}

/// Writes the lake beside its place and moves it there, so that whoever finds it finds all of it.
fn write(dir: &Path, arguments: &DemoArguments, quiet: bool) -> crate::error::Result<()> {
    let io = |e: std::io::Error| crate::Error::store(e.to_string());
    let dir = std::path::absolute(dir).map_err(io)?;
    let parent = dir.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let name = dir
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_else(|| "lake".into());
    std::fs::create_dir_all(&parent).map_err(io)?;
    let partial = parent.join(format!(".{name}.partial-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&partial);
    let mut tell = |line: &str| {
        if !quiet {
            say(line);
        }
    };
    let written = demo::write(&partial, arguments.scale, arguments.seed, &mut tell).and_then(|()| {
        // An empty folder may be in the way.
        let _ = std::fs::remove_dir(&dir);
        std::fs::rename(&partial, &dir).map_err(io)
    });
    if written.is_err() {
        let _ = std::fs::remove_dir_all(&partial);
        // Another process may have been faster; its lake is the same.
        if arguments.tour && holds_something(&dir) {
            return Ok(());
        }
    }
    written
}

fn walk(runtime: &Runtime, dir: &Path, arguments: &DemoArguments) -> Result<(), Stop> {
    let mut session = arguments.session.clone();
    let store = session
        .store
        .get_or_insert_with(|| dir.join(MODELS).to_string_lossy().into_owned())
        .clone();
    let mut shell = open(runtime, &session, Format::Table, ROWS)?;
    load(runtime, &shell, &dir.to_string_lossy())?;
    shell.limits.width = terminal_width();
    let coloured = colours(std::io::IsTerminal::is_terminal(&std::io::stdout()));
    let script = Script {
        name: Some("tour.sql"),
        text: TOUR,
    };
    for statement in statements(TOUR) {
        print(&shell, &introduction(statement.lead, coloured))?;
        let sql = if coloured {
            highlight(statement.text)
        } else {
            statement.text.to_string()
        };
        print(&shell, &format!("{sql};\n\n"))?;
        runtime.block_on(shell.statement(&statement, script))?;
    }
    let place = shown(dir);
    let end = if coloured { bold("The end.") } else { "The end.".into() };
    print(
        &shell,
        &format!(
            "\n{end} The lake is in {place}. To look around in it yourself:\n\n  dfml {place} --store {}\n",
            shown(Path::new(&store))
        ),
    )
}

fn print(shell: &Shell, text: &str) -> Result<(), Stop> {
    shell.print_text(text).map_err(|e| {
        if shell.output.is_unread() {
            return Stop::Unread;
        }
        say(format_args!("error: standard output cannot be written ({e})"));
        Stop::Failed
    })
}

/// A path as a command line takes it.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text
        .chars()
        .all(|c| c.is_alphanumeric() || matches!(c, '/' | '\\' | ':' | '.' | '-' | '_' | '~'));
    if plain {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Heading and prose out of the comments before a statement.
fn introduction(lead: &str, coloured: bool) -> String {
    let mut text = String::from("\n");
    for line in lead.lines() {
        let Some(comment) = line.trim_start().strip_prefix("--") else {
            continue;
        };
        let comment = comment.strip_prefix(' ').unwrap_or(comment).trim_end();
        match comment.strip_prefix("# ") {
            Some(heading) if coloured => text.push_str(&bold(heading)),
            Some(heading) => text.push_str(&format!("{heading}\n{}", "=".repeat(super::output::width(heading)))),
            None => text.push_str(comment),
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn introductions() {
        assert_eq!(
            introduction("\n\n-- # One\n-- Prose,\n--\n-- more.\n", false),
            "\nOne\n===\nProse,\n\nmore.\n\n"
        );
        assert_eq!(introduction("", false), "\n\n");
    }

    #[test]
    fn paths_for_a_command_line() {
        assert_eq!(shown(Path::new("/tmp/a-1")), "/tmp/a-1");
        assert_eq!(shown(Path::new("/tmp/it's here")), r"'/tmp/it'\''s here'");
    }

    #[test]
    fn the_tour_is_made_of_whole_statements() {
        let all = statements(TOUR);
        assert!(all.len() > 5);
        assert!(all.iter().all(|s| s.ended && !s.is_command()));
        assert!(all[0].lead.contains("-- # "));
    }
}
