//! The command line.

use std::path::PathBuf;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people: aligned, numbers rounded to six digits
    Table,
    /// Comma-separated, with a header
    Csv,
    /// An array of objects
    Json,
    /// An object a line
    Ndjson,
    /// A table as Markdown writes it
    Markdown,
}

const AFTER_HELP: &str = "\
Every folder and every Parquet, CSV or JSON file in DIR is a table named after it; subfolders like
month=2024-01 become columns. Without DIR no table is there at the start. Files are also read by
their place: SELECT * FROM 'sales/2024.parquet', or 's3://bucket/sales/' (credentials are taken from
AWS_*, GOOGLE_* and AZURE_* in the environment).

Without -c or -f, statements are typed, or read from standard input when that is no terminal.
Results go to standard output, everything else to standard error. The first error ends the run with
exit status 1.

Environment: DFML_STORE (where models are kept), DFML_HISTORY (the history file), NO_COLOR.

Examples:
  dfml demo --tour
  dfml lake
  dfml lake -c \"SELECT count(*) FROM orders\"
  dfml lake -f report.sql --format csv -q > report.csv";

/// Machine learning on customers, in SQL, over Parquet lakes.
#[derive(Debug, Parser)]
#[command(
    name = "dfml",
    version,
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub(super) struct Arguments {
    /// Folder (or s3://, gs://, az:// location) that holds the tables
    #[arg(value_name = "DIR")]
    pub(super) lake: Option<String>,

    /// Run these statements; may be given several times
    #[arg(short = 'c', long = "command", value_name = "SQL", allow_hyphen_values = true)]
    commands: Vec<String>,

    /// Run the statements of this file (- is standard input); may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE", allow_hyphen_values = true)]
    files: Vec<PathBuf>,

    /// How results are printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(super) format: Format,

    /// How many rows of a result the table format shows; 0 means all
    #[arg(long, value_name = "ROWS", default_value_t = 100)]
    pub(super) max_rows: usize,

    #[command(flatten)]
    pub(super) session: SessionArguments,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// What the shell and the tour share.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SessionArguments {
    /// Print results and errors alone: no timing, progress or notices
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Folder or URL where models are kept [default: .dfml/models; for the tour .models in DIR]
    #[arg(long, value_name = "PLACE")]
    pub(super) store: Option<String>,

    /// Threads to use [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) threads: Option<u16>,

    /// Memory that queries may use, such as 4GB; past it they spill to disk [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) memory_limit: Option<usize>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a shop's lake to try things on, and walk through it
    Demo(DemoArguments),
}

/// Arguments of `dfml demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// New folder for the lake; with --tour it may be left out, or hold the lake already
    #[arg(value_name = "DIR", required_unless_present = "tour")]
    pub(super) dir: Option<PathBuf>,

    /// How large the lake is: 10 has ten times the customers of 1
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    pub(super) scale: f64,

    /// The same seed writes the same lake
    #[arg(long, default_value_t = 42)]
    pub(super) seed: u64,

    /// Walk through the lake; without DIR it is kept in the folder for temporary files
    #[arg(long)]
    pub(super) tour: bool,

    #[command(flatten)]
    pub(super) session: SessionArguments,
}

/// Where statements come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// `-c`.
    Text(String),
    /// `-f`.
    File(PathBuf),
    /// `-f -`, or no terminal.
    Stdin,
}

impl Arguments {
    /// The arguments in these words, with `-c` and `-f` in the order in which they were given.
    ///
    /// # Errors
    /// Clap's: a usage error, `--help` or `--version`.
    pub(super) fn from_words<T: Into<std::ffi::OsString> + Clone>(
        words: impl IntoIterator<Item = T>,
    ) -> Result<(Self, Vec<Input>), clap::Error> {
        let matches = Self::command().try_get_matches_from(words)?;
        let arguments = Self::from_arg_matches(&matches)?;
        let inputs = arguments.inputs(&matches);
        Ok((arguments, inputs))
    }

    fn inputs(&self, matches: &ArgMatches) -> Vec<Input> {
        let places = |id: &str| {
            matches
                .indices_of(id)
                .map(Iterator::collect::<Vec<_>>)
                .unwrap_or_default()
        };
        let texts = self.commands.iter().map(|c| Input::Text(c.clone()));
        let files = self.files.iter().map(|f| match f.to_str() {
            Some("-") => Input::Stdin,
            _ => Input::File(f.clone()),
        });
        let mut inputs: Vec<(usize, Input)> = places("commands")
            .into_iter()
            .zip(texts)
            .chain(places("files").into_iter().zip(files))
            .collect();
        inputs.sort_by_key(|(place, _)| *place);
        inputs.into_iter().map(|(_, input)| input).collect()
    }
}

/// Bytes in a size such as `4GB`, `512MiB` or `1.5g`.
fn parse_size(text: &str) -> Result<usize, String> {
    let explain = || format!("'{text}' is no size; write a number and a unit, such as 512MB or 4GiB");
    let text = text.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let number: f64 = text[..split].parse().map_err(|_| explain())?;
    let factor = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(explain()),
    };
    let bytes = number * factor;
    if bytes < 1e6 {
        return Err(format!("'{text}' is too little to run a query; give at least 1MB"));
    }
    Ok(bytes as usize)
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= 10_000.0 => Ok(scale),
        _ => Err(format!("'{text}' is no scale; give a number above 0 and up to 10,000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_files_keep_their_order() -> Result<(), clap::Error> {
        let (arguments, inputs) =
            Arguments::from_words(["dfml", "-c", "a", "lake", "-f", "b.sql", "-qc", "-- c\nd", "-f", "-"])?;
        assert_eq!(arguments.lake.as_deref(), Some("lake"));
        assert!(arguments.session.quiet);
        let expected = [
            Input::Text("a".into()),
            Input::File("b.sql".into()),
            Input::Text("-- c\nd".into()),
            Input::Stdin,
        ];
        assert_eq!(inputs, expected);
        Ok(())
    }

    #[test]
    fn demo_needs_a_folder_or_the_tour() {
        assert!(Arguments::from_words(["dfml", "demo"]).is_err());
        assert!(Arguments::from_words(["dfml", "demo", "--tour"]).is_ok());
        assert!(Arguments::from_words(["dfml", "demo", "lake", "--scale", "0.1", "--seed", "7"]).is_ok());
        assert!(Arguments::from_words(["dfml", "demo", "lake", "--scale", "-1"]).is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4GB"), Ok(4_000_000_000));
        assert_eq!(parse_size("1.5 GiB"), Ok(1_610_612_736));
        assert!(parse_size("lots").is_err());
        assert!(parse_size("4 bananas").is_err());
        assert!(parse_size("10").is_err());
    }

    #[test]
    fn clap_finds_no_fault() {
        Arguments::command().debug_assert();
    }
}
